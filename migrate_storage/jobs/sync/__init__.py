"""The `sync` job: makes a destination equal to a source, without rows."""
