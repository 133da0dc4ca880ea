"""Simultaneous linear equations and multi-step arithmetic, with exact answers. No JAX here."""

from constellation.domains.equations.domain import DOMAIN

__all__ = ["DOMAIN"]
