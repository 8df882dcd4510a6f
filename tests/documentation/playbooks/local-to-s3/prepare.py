from pathlib import Path

import fsspec
from fill import fill

fill(fsspec.filesystem("file", auto_mkdir=True), str(Path("uploads").absolute()), "2026/")
