import json
from dataclasses import replace

import numpy as np
import pytest

from constellation.evaluation.analysis import analyse
from constellation.evaluation.correctness import ERRING, FIT, PROBED
from constellation.evaluation.crossover import CHANGE
from constellation.evaluation.curves import PART, PASS, subset_masks
from constellation.evaluation.gains import GAIN, SECOND_DIFFERENCE
from constellation.evaluation.question import Results
from constellation.evaluation.selection import ACCURACY
from constellation.evaluation.selection import GAIN as GAIN_OF_PICK
from constellation.evaluation.study import SetKey, StudyResults, TaskInfo
from tests.evaluation.synthetic import KINDS, study


@pytest.fixture(scope="module")
def results() -> StudyResults:
    return study()


@pytest.fixture(scope="module")
def analysed(results: StudyResults) -> Results:
    return analyse(results)


def test_is_json_without_nan(analysed: Results) -> None:
    assert json.loads(json.dumps(analysed.as_json(), allow_nan=False)) == analysed.as_json()


def test_curves_start_at_the_share_and_end_at_any_of_n(results: StudyResults, analysed: Results) -> None:
    for bank in results.tasks:
        for model in results.models:
            samples = results.samples[SetKey(bank, model, 1234)]  # the one split that all models share
            for quantity, column in ((PASS, samples.right), (FIT, samples.fits)):
                curve = analysed.entries.where(quantity=quantity, bank=bank, models=(model,))
                hit = samples.per_sample(column)
                assert curve.values("k") == list(range(1, 33))
                assert curve[0].estimate == pytest.approx(hit.mean(), abs=1e-6)
                assert curve[31].estimate == pytest.approx(hit.any(1).mean(), abs=1e-6)


def test_change_is_the_difference_of_the_curves(analysed: Results) -> None:
    changes = analysed.entries.where(quantity=CHANGE)
    assert len(changes) == 3 * 2 * 32
    for row in changes:
        before, after = (
            analysed.entries.one(quantity=PASS, bank=row.bank, models=(model,), k=row.k)
            for model in row.models
        )
        assert row.estimate == pytest.approx(after.estimate - before.estimate, abs=2e-6)
        assert row.interval[0] <= row.estimate <= row.interval[1]


def test_gains_add_up_to_the_change(results: StudyResults, analysed: Results) -> None:
    for bank in results.tasks:
        for k in (8, 16):
            gains = analysed.entries.where(quantity=GAIN, bank=bank, k=k, of="")
            change = analysed.entries.one(quantity=CHANGE, bank=bank, models=("gen_v0", "v2"), k=k)
            assert sum(row.estimate for row in gains) == pytest.approx(change.estimate, abs=3e-6)


def test_parts_of_a_bank_add_up_to_it(results: StudyResults, analysed: Results) -> None:
    for bank, tasks in analysed.facts["curves"]["tasks_of_parts"].items():
        passed = analysed.entries.where(quantity=PART, bank=bank, models=("v2",), k=8)
        assert passed.values("of") == list(tasks)
        for pair in (("at most 3 atoms", "exactly 4 atoms"), ("skeleton seen in training", "skeleton new")):
            if pair[0] not in tasks:
                continue
            assert sum(tasks[name] for name in pair) == len(results.tasks[bank])
            whole = sum(tasks[name] * passed.one(of=name).estimate for name in pair)
            level = analysed.entries.one(quantity=PASS, bank=bank, models=("v2",), k=8)
            assert whole == pytest.approx(level.estimate * len(results.tasks[bank]), abs=1e-3)
    parts = analysed.facts["curves"]["tasks_of_parts"]
    assert {"cased_span", "outer_constants", "twice_from_the_end"} <= set(parts["withheld"])
    assert "exactly 4 atoms" in parts["hard"] and "exactly 4 atoms" not in parts["easy"]


def test_a_part_with_every_task_or_none_is_left_out() -> None:
    tasks = [TaskInfo(str(t), 2, (), t > 0, "x", (), ()) for t in range(3)]
    assert list(subset_masks(tasks)) == ["skeleton seen in training", "skeleton new"]


def test_erring_on_a_probe_counts_samples(results: StudyResults, analysed: Results) -> None:
    samples = results.samples[SetKey("easy", "v1", 1234)]
    texts = [str(samples.text[p]) for p in samples.program.ravel()]
    right, wrong = texts.count(KINDS[0]), texts.count(KINDS[5])  # the latter generalises but errs on probes
    of = {"bank": "easy", "models": ("v1",)}
    erring, probed = (analysed.entries.one(quantity=quantity, **of) for quantity in (ERRING, PROBED))
    assert wrong > 0 and erring.estimate == pytest.approx(wrong / (right + wrong), abs=1e-6)
    assert probed.estimate == pytest.approx((right + wrong) / 24, abs=1e-6)


def test_selection_is_reported_where_scores_exist(analysed: Results) -> None:
    rows = analysed.entries.where(question="selection")
    for bank in ("easy", "hard"):
        assert rows.where(bank=bank).values("models") == [("gen_v0",), ("v2",)]
    assert rows.values("bank") == ["easy", "hard"]
    at = rows.where(bank="hard", models=("gen_v0",), k=8)
    gain = at.one(quantity=GAIN_OF_PICK, of="critic")
    assert gain.estimate == analysed.findings["critic_gain"]["estimate"]
    oracle, critic = (at.one(quantity=ACCURACY, of=name).estimate for name in ("oracle", "critic"))
    assert oracle >= critic


def test_rounds_extend_without_touching_what_was_there() -> None:
    two, five = analyse(study(rounds=2)), analyse(study(rounds=5))
    for model in two.study.models:
        curves = [found.entries.where(quantity=PASS, bank="hard", models=(model,)) for found in (two, five)]
        assert list(curves[0]) == list(curves[1]) != []
    kept = ("estimate", "interval", "p")  # the correction depends on the other findings
    for name in kept:
        assert two.findings["deceleration"][name] == five.findings["deceleration"][name]
    for quantity, count in ((GAIN, 5), (SECOND_DIFFERENCE, 4)):
        found = five.entries.where(quantity=quantity, bank="hard", k=8)
        assert [len(found.where(of=scale)) for scale in found.values("of")] == [count] * 3


@pytest.fixture(scope="module")
def crossed() -> StudyResults:
    """Four trajectories, and of the first round a quarter of the samples."""
    many, few = study(tasks=12, trajectories=4, doubled=True), study(tasks=12, n=8, trajectories=4)
    less = {key: value for key, value in few.samples.items() if key.model == "v1"}
    return replace(many, samples={**many.samples, **less}, analysis=replace(many.analysis, small_k=4))


def test_every_model_is_read_as_far_as_its_samples_go(crossed: StudyResults) -> None:
    found = analyse(crossed)
    hard = {"bank": "hard"}
    longest = {
        model: max(found.entries.where(quantity=PASS, models=(model,), **hard).values("k"))
        for model in crossed.models
    }
    assert longest == {"theta0": 32, "gen_v0": 32, "v1": 8, "v2": 32}
    assert found.as_json()["samples_per_task"]["hard"] == longest
    for model in ("v1", "v2"):
        changes = found.entries.where(quantity=CHANGE, models=("gen_v0", model), **hard)
        assert max(changes.values("k")) == longest[model]
    assert found.entries.where(quantity=GAIN, of="", **hard).values("k") == [4]
    assert found.facts["crossover"]["crossing"]["hard"]["limit"] == 16
    assert json.loads(json.dumps(found.as_json(), allow_nan=False)) == found.as_json()


def test_mean_and_trajectories_agree(crossed: StudyResults) -> None:
    found = analyse(crossed)
    rows = [
        *(
            row
            for model in ("gen_v0", "v1", "v2")
            for row in found.entries.where(models=(model,), quantity=PASS)
        ),
        *found.entries.where(quantity=CHANGE),
    ]
    assert len(rows) > 200
    for row in rows:
        assert len(row.by_trajectory) == 4
        assert np.mean(row.by_trajectory) == pytest.approx(row.estimate, abs=2e-6)
    base = found.entries.where(quantity=PASS, models=("theta0",))
    assert base.values("by_trajectory") == [None]
    finding = found.findings["crossover"]
    np.testing.assert_allclose(np.mean(finding["by_trajectory"], axis=1), finding["estimate"], atol=2e-6)
