"""Questions from files, judged by whether two answers are mathematically equal. No JAX here."""

from constellation.domains.questions.domain import make_domain

__all__ = ["make_domain"]
