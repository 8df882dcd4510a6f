"""The `verify` job: compares what rows name with the journal and with the source."""
