"""Re-keying of many rows in one statement or batch, where a listing and a prefix rule are enough."""
