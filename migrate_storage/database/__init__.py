"""The application's database: connection, dialects, file columns, compare-and-swap."""
