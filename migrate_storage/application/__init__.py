"""The application: engine, columns, backends, and the configuration file."""
