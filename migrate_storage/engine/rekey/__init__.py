"""Re-key many rows at once, where a listing and a prefix rule are enough."""
