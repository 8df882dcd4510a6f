"""Value types, errors, events, filters and spill files."""
