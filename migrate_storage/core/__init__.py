"""Value types, errors, events, filters and spill files. They import nothing of this package."""
