"""Translation is pure: it imports no filesystem, no SDK and no obstore, and opens nothing."""

import subprocess
import sys

PROGRAM = """
import sys
import migrate_storage.translate as translation

def audit(event, arguments):
    if event in ("open", "socket.connect", "subprocess.Popen", "os.listdir") and armed:
        raise AssertionError(event)

armed = []
sys.addaudithook(audit)
armed.append(True)
for protocol in (*translation.PROTOCOLS, "dir", "simplecache", "sftp"):
    for options in ({}, {"key": "K", "secret": "S", "token": "/etc/passwd", "client_kwargs": {"verify": "/etc/passwd"}}):
        translation.translate(protocol, options, "b/p", {"AWS_PROFILE": "p"})
armed.clear()
foreign = {"fsspec", "obstore", "s3fs", "gcsfs", "adlfs", "boto3", "botocore", "google", "azure", "aiohttp", "sqlalchemy"}
assert not foreign & set(sys.modules), foreign & set(sys.modules)
"""


def test_nothing_is_imported_opened_or_sent():
    subprocess.run([sys.executable, "-c", PROGRAM], check=True, timeout=60)
