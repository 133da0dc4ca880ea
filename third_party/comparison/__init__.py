"""Our computations beside those of transformers, peft and torch on the same checkpoint."""
