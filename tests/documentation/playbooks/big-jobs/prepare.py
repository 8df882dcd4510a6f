import fsspec
from fill import fill

fs = fsspec.filesystem("s3")
fill(fs, "acme-uploads", "2026/")
fill(fs, "acme-uploads/reports", "2026/", key="reports", first=40, count=20)
fill(fs, "acme-uploads/scans", "2026/", key="scans", first=60, count=20)
