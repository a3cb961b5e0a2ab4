"""One-shot, resource-limited processes for what strangers send, and what of it is checked before one is started."""
