"""The server measures itself: what is kept of each finished request, and what is told of it."""
