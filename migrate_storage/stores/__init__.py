"""One side of a transfer, whatever library speaks to it."""
