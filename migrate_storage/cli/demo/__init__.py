"""The example application of the ``demo`` command, and its files."""
