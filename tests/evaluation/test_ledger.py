from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import scipy.stats

from constellation.evaluation.analysis import resamples
from constellation.evaluation.entries import Entry
from constellation.evaluation.ledger import changed, fisher_table, ledger, sign_test
from constellation.evaluation.study import StudyResults
from tests.evaluation.counted import counted_study


def test_sign_test_agrees_with_scipy() -> None:
    gained, lost = np.meshgrid(np.arange(12), np.arange(12))
    ours = sign_test(gained, lost)
    for (i, j), p in np.ndenumerate(ours):
        g, both = int(gained[i, j]), int(gained[i, j] + lost[i, j])
        expected = scipy.stats.binomtest(g, both).pvalue if both else 1
        assert p == pytest.approx(expected)


@pytest.mark.parametrize("n", [1, 5, 16])
def test_fisher_agrees_with_scipy_on_every_table(n: int) -> None:
    for (a, b), p in np.ndenumerate(fisher_table(n)):
        assert p == pytest.approx(scipy.stats.fisher_exact([[a, n - a], [b, n - b]]).pvalue)


def test_fisher_agrees_with_scipy_on_large_tables() -> None:
    table, rng = fisher_table(256), np.random.default_rng(0)
    for a, b in rng.integers(0, 257, (60, 2)):
        assert table[a, b] == pytest.approx(scipy.stats.fisher_exact([[a, 256 - a], [b, 256 - b]]).pvalue)


def test_changes_are_adjusted_over_the_tasks_of_a_trajectory() -> None:
    before, after = np.array([[0, 4, 9, 16], [0, 0, 0, 0]]), np.array([[16, 5, 1, 16], [0, 1, 0, 8]])
    for k in range(2):
        p = [
            scipy.stats.fisher_exact([[a, 16 - a], [b, 16 - b]]).pvalue
            for a, b in zip(before[k], after[k], strict=True)
        ]
        np.testing.assert_allclose(changed(before, after, 16)[k], scipy.stats.false_discovery_control(p))


def ledger_of(study: StudyResults, model: str) -> tuple[list[dict[str, Any]], list[Entry]]:
    """What the ledger says of a model on the hard bank in each trajectory, and the tests of it."""
    rows, facts = ledger(study, None, resamples(study))
    return facts["hard"][model], [row for row in rows if row.models == ("gen_v0", model)]


def test_tasks_solved_and_lost_by_trajectory() -> None:
    counts = {
        "theta0": [[0] * 6],
        "gen_v0": [[0, 0, 5, 30, 2, 0], [1, 0, 5, 0, 2, 0]],
        "v1": [[20, 1, 5, 0, 0, 0], [0, 1, 5, 1, 2, 1]],
    }
    (first, second), (_, tested) = ledger_of(counted_study(counts), "v1")
    assert (first["solved_before"], first["solved_after"], first["gained"], first["lost"]) == (3, 3, 2, 2)
    assert (second["solved_before"], second["solved_after"]) == (3, 5)
    assert (second["gained"], second["lost"], second["samples"]) == (3, 1, 32)
    assert tested.p == pytest.approx(scipy.stats.binomtest(3, 4).pvalue)
    assert tested.tested and tested.estimate == 2 and tested.of == "1"
    assert first["significantly_gained"] == ["task0"] and first["significantly_lost"] == ["task3"]
    assert second["significantly_gained"] == second["significantly_lost"] == []


def test_both_are_given_as_many_samples() -> None:
    counts = {"theta0": [[0, 0]], "gen_v0": [[2, 40]], "v1": [[10, 20]]}
    study = counted_study(counts, n={"theta0": 64, "gen_v0": 64, "v1": 20})
    (row,), _ = ledger_of(study, "v1")
    # gen_v0's two correct samples are its 32nd and 33rd, beyond the first 20
    assert (row["samples"], row["solved_before"], row["gained"]) == (20, 1, 1)


def test_split_seeds_are_pooled() -> None:
    study = counted_study({"theta0": [[0, 0]], "gen_v0": [[0, 3]], "v1": [[1, 0]]})
    more = {key._replace(split_seed=2): samples for key, samples in study.samples.items()}
    (row,), _ = ledger_of(replace(study, samples={**study.samples, **more}), "v1")
    assert (row["samples"], row["gained"], row["lost"]) == (64, 1, 1)
