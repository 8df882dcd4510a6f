"""The job that finds public addresses of moved objects in texts."""
