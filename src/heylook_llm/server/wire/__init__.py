"""Dialects: pure functions between bytes on the wire and the vocabulary of core."""
