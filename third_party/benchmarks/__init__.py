"""Timings of the parts, side by side with PyTorch's."""
