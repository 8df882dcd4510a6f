"""Stores: one side of a transfer, opened from values."""
