"""ACME before its bulk copy: uploads at Amazon, their rows, and what other programs keep in the same bucket."""

import os

import fsspec
from fill import fill

amazon = fsspec.filesystem("s3")
fill(amazon, os.environ["ACME_UPLOADS"], "2026/")
amazon.pipe(f"{os.environ['ACME_UPLOADS']}/exports/2026.csv", b"no row names it")
