"""Evaluation of peers that teach one another (paper B): a pure function of stored answers and scores."""
