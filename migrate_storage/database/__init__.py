"""The application's database: connection, dialects, columns, compare-and-swap."""
