"""What a model is trained and judged on; imports no JAX."""
