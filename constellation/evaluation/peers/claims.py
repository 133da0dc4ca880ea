"""The four claims of paper B, fixed beforehand, and the rule by which they are judged.

All four are read on the mean over the peers, per problem and trajectory, paired; the rule is that of
`evaluation.findings`: a claim is supported at a one-sided p of at most 5 % after Holm over the four. A study
without an arm cannot measure the claims that compare PST with it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from constellation.evaluation.claims import Claim, NotMeasured
from constellation.evaluation.entries import points
from constellation.evaluation.peers.measures import exact, gap_of
from constellation.evaluation.peers.results import BANK, BEFORE, MEAN, PST, PeersResults
from constellation.evaluation.statistics import Bootstrap, wider

Array = NDArray[np.float64]
SELF_ONLY, UNIFORM, MAJORITY = "self_only", "uniform", "majority"


def claims(study: PeersResults, bootstrap: Bootstrap) -> dict[str, Claim | NotMeasured]:
    """The claims, measured."""

    def match(model: str) -> Array:
        return study.per_problem(model, MEAN, exact)

    def gap(model: str) -> Array:
        return gap_of(study, model, MEAN, "quantile", study.quantiles[0])

    def claim(
        text: str, what: str, direction: int, value_of: Callable[[str], Array], later: str, earlier: str
    ) -> Claim | NotMeasured:
        for model in (later, earlier):
            if model not in study.models:
                return NotMeasured(text, f"the study has no arm {model!r}")
        values = value_of(later) - value_of(earlier)
        numbers = bootstrap.both(BANK, values[..., None])
        measured = points(*(part[0] for part in wider(*numbers)[:3]))
        return Claim(
            text,
            (direction,),
            numbers,
            values[..., None],
            ("Yes", "No", "Undecided"),
            f"{what} is {measured} points",
        )

    return {
        "exact_match_rises": claim(
            "Peers that learn from one another answer more problems right: the mean exact match rises.",
            "its change from before to PST",
            1,
            match,
            PST,
            BEFORE,
        ),
        "gap_falls": claim(
            "The generation-verification gap falls by more than that of peers that learn alone.",
            "PST's gap less that of self-only training",
            -1,
            gap,
            PST,
            SELF_ONLY,
        ),
        "weights_help": claim(
            "Weighting by PMI beats learning every answer alike.",
            "the exact match of PST less that at w = 1",
            1,
            match,
            PST,
            UNIFORM,
        ),
        "beats_majority": claim(
            "PST beats fine-tuning on the majority's answer.",
            "the exact match of PST less that of majority-vote fine-tuning",
            1,
            match,
            PST,
            MAJORITY,
        ),
    }
