"""One-shot, resource-limited processes for work on data from strangers."""
