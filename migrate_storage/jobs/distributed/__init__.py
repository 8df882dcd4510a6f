"""One job in several processes: shards, and tasks on a Dask cluster."""
