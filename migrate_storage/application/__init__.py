"""The application as its own code describes it: engine, file columns, backends, and the configuration file."""
