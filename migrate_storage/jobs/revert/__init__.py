"""The `revert` job: points rows back to the source."""
