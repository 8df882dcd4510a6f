"""From a store configuration to an open obstore store: options, credentials, client options, isolation from the environment."""
