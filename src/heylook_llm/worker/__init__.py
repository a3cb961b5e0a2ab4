"""The model program: one loaded model, its requests batched continuously."""
