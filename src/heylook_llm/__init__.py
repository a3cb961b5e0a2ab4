"""heylookllm: a local model server that measures itself."""

__version__ = "2.0.0"
