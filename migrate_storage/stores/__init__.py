"""Object stores over obstore and fsspec, with listing, retry and rate limits."""
