"""The language model: Qwen3 in JAX, driven by a Hugging Face directory; knows nothing of tasks."""
