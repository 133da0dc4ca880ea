"""What the stored samples say: pass@k, selection, divergence, diversity, findings and the report.

Reads stores only (numpy, scipy): it never sees a model, so every figure can be redrawn without one.
"""
