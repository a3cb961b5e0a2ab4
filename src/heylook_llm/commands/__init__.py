"""The subcommands of `heylookllm`, one file each; cli.py declares their options."""
