"""The cutover: one backend over two stores, so that an application moves while it runs, and back again."""
