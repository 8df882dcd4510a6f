"""The `purge` job: deletes source objects whose copies are verified, and copies that no row references."""
