"""The phase of a cutover: its sources, leases, tables and transitions."""
