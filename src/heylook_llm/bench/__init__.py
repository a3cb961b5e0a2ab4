"""The bench: a client that measures a server, and keeps what it measured."""
