"""What a client of a library loads anew each time it is made, and tests make thousands: it is loaded once, or not at all.

botocore reads 2 MB of JSON for each session, which takes 0.2 seconds. An SSL context reads the certificates of all authorities,
which takes 0.07 seconds, and PyMySQL makes one for each connection, also where nothing is encrypted.
"""

from __future__ import annotations

import functools
import os

import botocore.loaders
import botocore.session

from tests.support import ROOT


def share_botocore_data() -> None:
    """Let all sessions of this process read botocore's descriptions of services from one loader."""
    botocore.session.create_loader = functools.cache(botocore.loaders.create_loader)


def leave_out_authorities() -> None:
    """Let this process and those that it starts load one certificate, whose key is lost: no test speaks TLS with a public server."""
    os.environ["SSL_CERT_FILE"] = str(ROOT / "tests" / "support" / "no_authority.pem")
