"""One module per fsspec protocol: options in, a translation out."""
