"""The `run` job: copies objects, verifies the copies, re-points rows."""
