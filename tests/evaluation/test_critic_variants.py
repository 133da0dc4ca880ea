"""Gains at other numbers of visible examples and of other critics: by enumeration, and where known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from constellation.evaluation.analysis import resamples
from constellation.evaluation.critic_variant_plots import critic_variants as figure
from constellation.evaluation.critic_variants import critic_variants
from constellation.evaluation.entries import plain
from constellation.evaluation.methods import figure_sources, methods
from constellation.evaluation.selectors import SELECTORS, cut
from constellation.evaluation.study import SetKey, StudyResults
from constellation.runtime.errors import UserError
from constellation.samples import SampleSet
from tests.evaluation.synthetic import sample_set, study
from tests.evaluation.synthetic import variants as with_variants

TRAJECTORIES = 2


@pytest.fixture(scope="module")
def results() -> StudyResults:
    return with_variants(study(tasks=30, n=16, trajectories=3), TRAJECTORIES, n=8)


def hits(pools: list[tuple[SampleSet, np.ndarray]], k: int, selector: str) -> float:
    """Mean accuracy over trajectories, tasks and groups."""
    return float(np.mean([SELECTORS[selector].hits(cut(own, k, scores)).mean() for own, scores in pools]))


def own_pools(results: StudyResults, model: str) -> list[tuple[SampleSet, np.ndarray]]:
    keys = [SetKey("hard", model, 1234, k) for k in range(TRAJECTORIES)]
    return [(results.samples[key], results.critic_scores[key]) for key in keys]


def test_every_number_of_visible_examples_with_the_studys_own_among_them(results: StudyResults) -> None:
    found = critic_variants(results, resamples(results))
    assert (found["trajectories"], found["own_visible"]) == (TRAJECTORIES, 2)
    assert list(found["visible"]) == ["1", "2", "4"]
    pools = {
        str(v): [(own, columns["critic"]) for own, columns in sets] for v, sets in results.visible.items()
    }
    pools["2"] = own_pools(results, "gen_v0")
    for number, by_k in found["visible"].items():
        assert list(by_k) == [2, 4, 8]  # as far as the smallest pools go
        for k, entry in by_k.items():
            naive, critic, majority, oracle = (
                hits(pools[number], k, name) for name in ("naive", "critic", "majority", "oracle")
            )
            assert entry["naive"]["estimate"] == pytest.approx(naive)
            assert entry["critic"]["estimate"] == pytest.approx(critic - naive)
            assert entry["majority"]["estimate"] == pytest.approx(majority - naive)
            assert entry["oracle"]["estimate"] == pytest.approx(oracle - naive)
            assert entry["share"]["estimate"] == pytest.approx((critic - naive) / (oracle - naive))


def test_changes_are_between_neighbours_and_between_the_ends(results: StudyResults) -> None:
    found = critic_variants(results, resamples(results))
    rooms = {
        entry["models"]: entry["estimate"]
        for entry in found["changes"]
        if entry["quantity"] == "oracle minus first survivor"
    }
    room = {v: by_k[8]["oracle"]["estimate"] for v, by_k in found["visible"].items()}
    pairs = [("1", "2"), ("2", "4"), ("1", "4")]
    assert list(rooms) == [(f"{a} visible", f"{b} visible") for a, b in pairs]
    assert list(rooms.values()) == pytest.approx([room[b] - room[a] for a, b in pairs])


def test_a_critic_beside_the_fixed_one_on_the_same_candidates(results: StudyResults) -> None:
    found = critic_variants(results, resamples(results))["critics"]
    assert {name: entry["model"] for name, entry in found.items()} == {"sharp": "v2", "same": "gen_v0"}
    for name, entry in found.items():
        fixed = own_pools(results, entry["model"])
        scores = results.variant_scores[name].values()
        variant = [(own, other) for (own, _), other in zip(fixed, scores, strict=True)]
        assert list(entry["ks"]) == [2, 4, 8, 16]
        for k, at in entry["ks"].items():
            gains = [hits(pools, k, "critic") - hits(pools, k, "naive") for pools in (fixed, variant)]
            assert at["fixed"]["gain"]["estimate"] == pytest.approx(gains[0])
            assert at["variant"]["gain"]["estimate"] == pytest.approx(gains[1])
            assert at["difference"]["estimate"] == pytest.approx(gains[1] - gains[0])
    # one that knows what is right wins the whole room; one of the same scores gains nothing, with certainty
    sharp, same = found["sharp"]["ks"][8], found["same"]["ks"][8]
    assert sharp["variant"]["share"]["estimate"] == pytest.approx(1)
    assert sharp["variant"]["share"]["interval"] == pytest.approx([1, 1])
    assert same["difference"] == {"estimate": 0, "interval": [0, 0]}


def test_with_everything_visible_there_is_no_room() -> None:
    """All survivors are right: every gain is 0, and the share of nothing is not defined."""
    base = study(tasks=2, n=16)
    rows = [["right a", "bad", "right bb", "bad"] * 4, ["bad"] * 16]
    pool = replace(sample_set(rows), task_ids=np.array(["hard0", "hard1"], np.object_))
    results = replace(base, visible={11: [(pool, {"critic": np.where(pool.fits, 0.5, np.nan)})]})
    entry = plain(critic_variants(results, resamples(results)))["visible"]["11"]["8"]
    assert entry["naive"]["estimate"] == 0.5 and entry["divergent_share"] == 0
    for name in ("critic", "majority", "oracle"):
        tested = {} if name == "oracle" else {"p": 1}  # it is never behind
        assert entry[name] == {"estimate": 0, "interval": [0, 0], **tested}
    assert entry["share"]["estimate"] is None


def test_either_part_alone_and_neither(results: StudyResults) -> None:
    bare = replace(results, visible={}, variant_scores={})
    nothing = critic_variants(bare, resamples(bare))
    assert (nothing["trajectories"], nothing["visible"], nothing["critics"]) == (0, {}, {})
    panels = []
    parts = [replace(results, visible={}), replace(results, variant_scores={}), results, bare]
    for one in parts:
        drawn = figure(
            plain(
                {
                    "critic_variants": critic_variants(one, resamples(one)),
                    "controls": {"critic": []},
                    "analysis": {"small_k": 8},
                    "models": one.models,
                }
            )
        )
        panels.append(len(drawn.axes) if drawn else 0)
    assert panels == [1, 2, 3, 0]


def test_no_more_is_read_than_the_first_trajectories(results: StudyResults) -> None:
    few = with_variants(study(tasks=30, n=16, trajectories=2), TRAJECTORIES, n=8)
    one, other = (critic_variants(own, resamples(own)) for own in (results, few))
    for a, b in zip(one["changes"], other["changes"], strict=True):
        assert a["estimate"] == pytest.approx(b["estimate"], abs=1e-12)


def test_their_samples_are_counted_and_their_stages_named(results: StudyResults) -> None:
    assert methods(results)["samples"]["variants"] == {"gen_v0": 2 * TRAJECTORIES * 30 * 8}
    names = [
        "visible_1_samples_gen_v0_hard_1234",
        "samples_gen_v0_hard_1234",
        "scores_sharp_v2_hard_1234",
        "scores_v2_hard_1234",
        "samples_v1_hard_1234",
        "scores_permuted_critic_hard_1234",
    ]
    shown = figure_sources(replace(results, sources={"study": dict.fromkeys(names, "")}), "critic_variants")
    assert list(shown) == names[:4]


def test_refuses_scores_of_a_gap_in_the_trajectories(results: StudyResults) -> None:
    scores = {SetKey("hard", "gen_v0", 1234, 1): np.zeros(3)}
    with pytest.raises(UserError, match=r"odd of gen_v0 on hard .* \[1\], not of \[0, 1\]"):
        replace(results, variant_scores={"odd": scores})
