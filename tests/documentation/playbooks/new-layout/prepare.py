import fsspec
from fill import fill

fill(fsspec.filesystem("s3"), "acme-uploads", "2026-")
