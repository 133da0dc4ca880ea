"""The ceiling of a task against programs run one by one, and that it is a probability."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest

from constellation.domains.domain import Verdict
from constellation.domains.task import Example, Split, Task, addressed_random, split
from constellation.domains.trapdoor import DOMAIN as trapdoor
from constellation.domains.trapdoor.language import Node, evaluate, to_text
from constellation.domains.trapdoor.posterior import (
    OutputPosterior,
    bayes_ceiling,
    candidate_posterior,
    sampler_probability,
)
from constellation.domains.trapdoor.prior import draw_program
from constellation.domains.trapdoor.synthesis import ablations
from constellation.domains.trapdoor.verifier import judge
from constellation.samples import SampleSet, collect


def divided(task: Task) -> Split:
    return split(task, 1234)


def example_split(*held_out: Example) -> Split:
    return Split((Example(("Ann Lee",), "Ann"), Example(("Bob Ray",), "Bob")), held_out)


DRAWN_SPLIT = example_split(Example(("Cy B. Zed",), "Cy"), Example(("Dora-Moe",), "Dora"))


@pytest.fixture(scope="module")
def drawn() -> list[tuple[Node, Verdict]]:
    """Programs of one atom from the prior that fit the visible examples."""
    rng = addressed_random("posterior")
    programs = [draw_program(rng, 1) for _ in range(30_000)]
    judged = [(program, judge(DRAWN_SPLIT, to_text(program))) for program in programs]
    return [(program, verdict) for program, verdict in judged if verdict.fits]


def close_to(p: float, draws: int):
    return pytest.approx(p, abs=4 * (p * (1 - p) / draws) ** 0.5)


def test_the_ideal_sampler_is_right_as_often_as_fitting_draws_are(drawn: list[tuple[Node, Verdict]]):
    p = sampler_probability(DRAWN_SPLIT, 1)
    assert 0.1 < p < 0.9 and len(drawn) > 1000
    assert np.mean([verdict.right for _, verdict in drawn]) == close_to(p, len(drawn))


def test_outputs_are_as_probable_as_among_fitting_draws(drawn: list[tuple[Node, Verdict]]):
    """Less those that a task's rules would reject on all four inputs."""
    visible = [example.output for example in DRAWN_SPLIT.visible]
    inputs = [example.inputs for example in (*DRAWN_SPLIT.visible, *DRAWN_SPLIT.held_out)]

    def explained(program: Node, outputs: Sequence[str | None]) -> bool:
        variants = [[evaluate(v, text).value for text in inputs] for v in ablations(program)]
        return list(outputs) in variants

    seen = Counter(
        verdict.key
        for program, verdict in drawn
        if None not in verdict.key and not explained(program, [*visible, *verdict.key])
    )
    posterior, draws = OutputPosterior(DRAWN_SPLIT, 1), seen.total()
    assert len(seen) > 3
    for outputs, count in seen.items():
        assert count / draws == close_to(posterior(outputs), draws)


def test_all_outputs_together_are_certain():
    """Outputs that some program of one atom gives on a held-out input; they are pieces of it."""
    text = "Cy B. Zed"
    of = example_split(Example((text,), "Cy"))
    pieces = {text[i:j] for i in range(len(text) + 1) for j in range(i, len(text) + 1)}
    cases = (str, str.upper, str.lower, str.title, str.capitalize)
    outputs = {case(piece) for piece in pieces for case in cases}
    posterior = OutputPosterior(of, 1)
    assert sum(posterior((output,)) for output in outputs) == pytest.approx(1, rel=1e-12)


def test_faults_and_what_nothing_fits_are_impossible():
    assert OutputPosterior(example_split(Example(("Cy",), "Cy")), 2)((None,)) == 0
    strange = Split((Example(("ab",), "¿¿"),), (Example(("cd",), "!!"),))
    assert sampler_probability(strange, 3) == 0 and OutputPosterior(strange, 3)(("!!",)) == 0


def test_a_withheld_task_has_a_law_of_its_own(banks: dict[str, list[Task]]):
    tasks = banks["withheld"][:3]
    assert (bayes_ceiling(tasks, divided, 4, withheld=True)["secret"] > 0).all()


@pytest.fixture(scope="module")
def candidates(banks: dict[str, list[Task]]) -> SampleSet:
    """Secret programs, ones that hardly fit, and junk, as samples."""
    tasks = banks["tuning_hard"][:4]
    texts = [[task.program, f"Lower({task.program})", "x", "junk("] for task in tasks]
    return collect(
        [task.id for task in tasks],
        [[np.zeros(1, np.int32)] * 4 for _ in tasks],
        [[True] * 4 for _ in tasks],
        texts,
        {},
    ).judge(lambda t, text: trapdoor.verdict(tasks[t], divided(tasks[t]), text))


def test_scores_of_candidates(banks: dict[str, list[Task]], candidates: SampleSet):
    tasks = banks["tuning_hard"][:4]
    scores = candidate_posterior(tasks, divided, candidates, 4)
    ceiling = bayes_ceiling(tasks, divided, 4)
    assert (np.isnan(scores) == ~candidates.fits).all()
    secret = scores[candidates.program[:, 0]]
    assert secret == pytest.approx(ceiling["secret"]) and (secret > 0).all() and (secret <= 1).all()
    assert ((ceiling["sampler"] > 0) & (ceiling["sampler"] <= 1)).all()
    # candidates with other outputs share what is left
    for t in range(4):
        rows = candidates.programs_of(t)
        _, first = np.unique(candidates.key[rows], return_index=True)
        assert np.nansum(scores[rows][first]) <= 1 + 1e-12
