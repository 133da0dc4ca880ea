"""The trapdoor domain of paper A: language, prior, synthesis, banks, prompts and verifier. No JAX here."""

from constellation.domains.trapdoor.domain import DOMAIN

__all__ = ["DOMAIN"]
