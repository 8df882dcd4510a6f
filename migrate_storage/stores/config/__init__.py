"""Open an obstore store from a configuration, isolated from the environment."""
