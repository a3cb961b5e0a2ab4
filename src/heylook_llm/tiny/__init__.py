"""The weights of the bundled tiny model."""
