"""Constellation: language models that improve on programs they wrote and checked themselves."""
