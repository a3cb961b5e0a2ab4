"""The HTTP program."""
