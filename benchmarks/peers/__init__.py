"""Our server beside the servers that people use: same weights, same client, same machine, in turns (docs/peers.md)."""
