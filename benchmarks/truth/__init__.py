"""Our bench beside genai-bench and guidellm: which of them tells the truth of one target (docs/bench_truth.md)."""
