import fsspec
from fill import fill

fill(fsspec.filesystem("s3"), None, "acme-uploads/2026/")
