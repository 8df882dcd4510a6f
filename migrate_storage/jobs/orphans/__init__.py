"""The `orphans` job: objects that no row references, and rows whose object is missing."""
