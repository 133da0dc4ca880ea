"""Gains at other numbers of visible examples and of other critics: by enumeration, and where known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from constellation.evaluation.analysis import analyse, resamples
from constellation.evaluation.critics import GAIN_CHANGE, QUESTION, Critics, critic_variants, critics
from constellation.evaluation.entries import Entries
from constellation.evaluation.methods import methods
from constellation.evaluation.report import render
from constellation.evaluation.selection import ACCURACY, DIVERGENT, GAIN, LEAD, ROOM, selectors_of
from constellation.evaluation.selectors import SELECTORS, cut
from constellation.evaluation.study import SetKey, StudyResults
from constellation.runtime.errors import UserError
from constellation.samples import SampleSet
from tests.evaluation.synthetic import sample_set, study
from tests.evaluation.synthetic import variants as with_variants

TRAJECTORIES = 2


@pytest.fixture(scope="module")
def results() -> StudyResults:
    return with_variants(study(tasks=30, trajectories=3), TRAJECTORIES, n=8)


@pytest.fixture(scope="module")
def rows(results: StudyResults) -> Entries:
    return answered(results)


def part_of(results: StudyResults) -> Critics:
    part = results.parts["critics"]
    assert isinstance(part, Critics)
    return part


def answered(results: StudyResults) -> Entries:
    return Entries(row.rounded() for row in critics(results, part_of(results), resamples(results)).entries)


def hits(pools: list[tuple[SampleSet, np.ndarray]], k: int, selector: str) -> float:
    """Mean accuracy over trajectories, tasks and groups."""
    return float(np.mean([SELECTORS[selector].hits(cut(own, k, scores)).mean() for own, scores in pools]))


def own_pools(results: StudyResults, model: str) -> list[tuple[SampleSet, np.ndarray]]:
    keys = [SetKey("hard", model, 1234, k) for k in range(TRAJECTORIES)]
    return [(own, columns["critic"]) for own, columns in selectors_of(results).critic_sets(results, keys)]


def test_every_number_of_visible_examples_with_the_studys_own_among_them(
    results: StudyResults, rows: Entries
) -> None:
    part = part_of(results)
    facts = critics(results, part, resamples(results)).facts
    assert (facts["trajectories"], facts["own_visible"]) == (TRAJECTORIES, 2)
    assert list(facts["visible"]) == [1, 2, 4]
    pools = {v: [(own, columns["critic"]) for own, columns in sets] for v, sets in part.visible.items()}
    pools[2] = own_pools(results, "gen_v0")
    for number, model in facts["visible"].items():
        of_model = rows.where(models=(model,))
        assert of_model.values("k") == [2, 4, 8]  # as far as the smallest pools go
        for k in (2, 4, 8):
            at = of_model.where(k=k)
            naive, critic, majority, oracle = (
                hits(pools[number], k, name) for name in ("naive", "critic", "majority", "oracle")
            )
            assert at.one(quantity=ACCURACY, of="naive").estimate == pytest.approx(naive, abs=1e-6)
            for name, accuracy in (("critic", critic), ("majority", majority), ("oracle", oracle)):
                gain = at.one(quantity=GAIN, of=name).estimate
                assert gain == pytest.approx(accuracy - naive, abs=1e-6)
            share = (critic - naive) / (oracle - naive)
            assert at.one(quantity=ROOM).estimate == pytest.approx(share, abs=1e-6)


def test_changes_are_between_neighbours_and_between_the_ends(rows: Entries) -> None:
    names = [f"gen_v0, {number} visible" for number in (1, 2, 4)]
    room = [rows.one(quantity=GAIN, of="oracle", models=(name,), k=8).estimate for name in names]
    changes = rows.where(quantity=GAIN_CHANGE, of="oracle", k=8, tested=True)
    pairs = [(0, 1), (1, 2), (0, 2)]
    assert [row.models for row in changes] == [(names[a], names[b]) for a, b in pairs]
    expected = [room[b] - room[a] for a, b in pairs]
    assert [row.estimate for row in changes] == pytest.approx(expected, abs=2e-6)


def test_a_critic_and_the_fixed_one_on_the_same_candidates(results: StudyResults, rows: Entries) -> None:
    for name, model in (("sharp", "v2"), ("same", "gen_v0")):
        fixed = own_pools(results, model)
        scores = part_of(results).scores[name].values()
        variant = [(own, other) for (own, _), other in zip(fixed, scores, strict=True)]
        leads = rows.where(quantity=LEAD, models=(model,), of=f"{name} minus critic")
        assert leads.values("k") == [2, 4, 8, 16, 32]
        for k in (2, 4, 8, 16, 32):
            lead, at = leads.one(k=k), rows.where(models=(model,), k=k)
            gains = [hits(pools, k, "critic") - hits(pools, k, "naive") for pools in (fixed, variant)]
            assert at.one(quantity=GAIN, of="critic").estimate == pytest.approx(gains[0], abs=1e-6)
            assert at.one(quantity=GAIN, of=name).estimate == pytest.approx(gains[1], abs=1e-6)
            assert lead.estimate == pytest.approx(gains[1] - gains[0], abs=1e-6)
            assert lead.tested == (k == 8)
    # one that knows what is right wins the whole room; one of the same scores gains nothing, with certainty
    sharp = rows.one(quantity=ROOM, of="sharp", k=8)
    assert sharp.estimate == pytest.approx(1) and sharp.interval == pytest.approx([1, 1])
    same = rows.one(quantity=LEAD, of="same minus critic", k=8)
    assert (same.estimate, same.interval) == (0, [0, 0])


def test_two_critics_of_one_model_share_what_the_fixed_one_does(results: StudyResults) -> None:
    part = part_of(results)
    twice = replace(part, scores={**part.scores, "again": part.scores["same"]})
    rows = answered(replace(results, parts={**results.parts, "critics": twice}))
    for name in ("same", "again"):
        assert rows.one(quantity=LEAD, of=f"{name} minus critic", k=8).estimate == 0
    assert rows.one(quantity=GAIN, models=("gen_v0",), of="critic", k=8).p is None


def test_with_everything_visible_there_is_no_room() -> None:
    """All survivors are right: every gain is 0, and the share of nothing is not defined."""
    base = study(tasks=2)
    rows = [["right a", "bad", "right bb", "bad"] * 4, ["bad"] * 16]
    pool = replace(sample_set(rows), task_ids=np.array(["hard0", "hard1"], np.object_))
    part = Critics({11: [(pool, {"critic": np.where(pool.fits, 0.5, np.nan)})]}, "gen_v0", {})
    shown = replace(base, parts={**base.parts, "critics": part})
    at = answered(shown).where(models=("gen_v0, 11 visible",), k=8)
    assert at.one(quantity=ACCURACY).estimate == 0.5 and at.one(quantity=DIVERGENT).estimate == 0
    for name in ("critic", "majority", "oracle"):
        row = at.one(quantity=GAIN, of=name)
        assert (row.estimate, row.interval) == (0, [0, 0])
        assert row.p == (None if name == "oracle" else 1)  # it is never behind
    assert at.one(quantity=ROOM).estimate is None


def test_either_comparison_alone_and_neither(results: StudyResults) -> None:
    part, panels = part_of(results), []
    for own in (replace(part, visible={}), replace(part, scores={}), part):
        found = analyse(replace(results, parts={**results.parts, "critics": own}), [QUESTION])
        figure = critic_variants(found)
        assert figure is not None
        panels.append(len(figure.axes))
    assert panels == [1, 2, 3]
    nothing = replace(results, parts={})
    page = render(nothing, analyse(nothing), {})
    assert "Not measured: the study has no variants of prompt and critic." in page


def test_no_more_is_read_than_the_first_trajectories(rows: Entries) -> None:
    few = answered(with_variants(study(tasks=30, trajectories=2), TRAJECTORIES, n=8))
    for one, other in zip(rows, few, strict=True):
        assert one.estimate == pytest.approx(other.estimate, abs=1e-6)


def test_their_samples_are_counted(results: StudyResults) -> None:
    assert methods(results)["samples"]["variants"] == {"gen_v0": 2 * TRAJECTORIES * 30 * 8}


def test_refuses_scores_of_a_gap_in_the_trajectories(results: StudyResults) -> None:
    odd = Critics({}, "gen_v0", {"odd": {SetKey("hard", "gen_v0", 1234, 1): np.zeros(3)}})
    with pytest.raises(UserError, match=r"odd of gen_v0 on hard .* \[1\], not of \[0, 1\]"):
        replace(results, parts={"critics": odd})
