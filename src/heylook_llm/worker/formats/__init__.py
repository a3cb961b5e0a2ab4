"""How families of models write reasoning and tool calls, and how that is read from an answer as it comes."""
