"""The language model: dense decoders in JAX, driven by a Hugging Face directory; knows nothing of tasks."""
