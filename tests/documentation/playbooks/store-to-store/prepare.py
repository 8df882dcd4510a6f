"""ACME before it leaves: uploads at Amazon, reports at Google, scans at Azure, and the rows of all."""

import os

import adlfs
import fsspec
import gcsfs
from fill import fill

fill(fsspec.filesystem("s3"), os.environ["ACME_UPLOADS"], "2026/")
google = gcsfs.GCSFileSystem(token="anon", endpoint_url=os.environ["GOOGLE"], project="acme")
fill(google, os.environ["ACME_REPORTS"], "2026/", key="reports", first=40, count=20)
azure = adlfs.AzureBlobFileSystem(connection_string=os.environ["AZURE_STORAGE_CONNECTION_STRING"])
fill(azure, os.environ["ACME_SCANS"], "2026/", key="scans", first=60, count=20)
