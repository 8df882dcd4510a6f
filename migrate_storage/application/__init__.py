"""The application: its engine, StoredObject columns, storage backends, and the configuration file."""
