"""Filesystems without an obstore store, which can be sources through fsspec."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ("ARCHIVES", "SOURCE_ONLY", "WRAPPERS")

#: Protocols and their services, for the note and the documentation.
SOURCE_ONLY: Mapping[str, str] = {
    "sftp": "SFTP", "ssh": "SFTP", "ftp": "FTP", "smb": "SMB", "hdfs": "HDFS", "arrow_hdfs": "HDFS",
    "webhdfs": "WebHDFS", "webdav": "WebDAV", "dbfs": "Databricks", "dropbox": "Dropbox", "gdrive": "Google Drive",
    "box": "Box", "onedrive": "OneDrive", "msgd": "Microsoft Graph", "sharepoint": "SharePoint",
    "hf": "Hugging Face", "lakefs": "lakeFS", "wandb": "Weights & Biases", "github": "GitHub",
    "git": "a git repository", "gist": "a gist", "jupyter": "Jupyter", "jlab": "Jupyter", "dask": "a Dask worker",
    "data": "a data URL", "root": "XRootD", "oss": "Alibaba OSS (it has an S3 endpoint: register that)",
    "ossfs": "Alibaba OSS (it has an S3 endpoint: register that)",
    "oci": "Oracle object storage (it has an S3 endpoint: register that)",
    "ocilake": "Oracle object storage (it has an S3 endpoint: register that)",
    "tos": "Volcengine TOS (it has an S3 endpoint: register that)",
    "tosfs": "Volcengine TOS (it has an S3 endpoint: register that)",
}  # fmt: skip

#: Filesystems of the members of one archive.
ARCHIVES = frozenset({"zip", "tar", "libarchive", "reference"})

#: Filesystems around another one.
WRAPPERS = frozenset(
    {"dir", "simplecache", "filecache", "blockcache", "cached", "generic", "asyncwrapper", "async_wrapper"}
)
