"""The phase of a cutover: its lease, its table, and the transitions from one phase to the next."""
