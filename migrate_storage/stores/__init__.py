"""Object stores: one protocol over obstore and fsspec, with listing, retry and rate limits."""
