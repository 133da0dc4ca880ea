"""What ties us to the PyTorch world: a reference implementation, and comparisons and benchmarks with it.

The library imports nothing of it.
"""
