"""The `demo` command: a small application, and the scenario that runs on it."""
