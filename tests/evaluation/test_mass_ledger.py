import numpy as np
import pytest

from constellation.evaluation.analysis import resamples
from constellation.evaluation.mass_ledger import classes, mass_ledger
from constellation.evaluation.reach import known_of
from tests.evaluation.synthetic import study

PARTITIONS = (
    ("secret program", "other programs"),
    ("no withheld class", "withheld: outer_constants"),
    ("in gen_v0's samples", "not in gen_v0's samples"),
    ("3 atoms",),
)


@pytest.mark.parametrize("trajectories", [1, 3])
def test_each_partition_adds_up_to_all(trajectories: int) -> None:
    drawn = study(tasks=12, n=16, trajectories=trajectories, resamples=20)
    known = known_of(drawn)
    assert known is not None
    ledger = mass_ledger(drawn, resamples(drawn), known)
    assert set(ledger) == {"all", *(name for names in PARTITIONS for name in names)}
    for names in PARTITIONS:
        assert sum(ledger[name]["programs"] for name in names) == pytest.approx(ledger["all"]["programs"])
        for model in drawn.models:
            whole = ledger["all"]["mass"][model]["estimate"]
            parts = [ledger[name]["mass"][model]["estimate"] for name in names]
            assert sum(parts) == pytest.approx(whole, rel=1e-12)
            assert whole == pytest.approx(np.exp(known.log_mass[model]).mean(), rel=1e-12)


def test_secret_mass_by_hand() -> None:
    drawn = study(tasks=12, n=16, resamples=20)
    known = known_of(drawn)
    assert known is not None and drawn.known is not None
    entry = mass_ledger(drawn, resamples(drawn), known)["secret program"]
    masses = {model: np.exp(drawn.known.log_prob[model, 0][::2]).mean() for model in drawn.models}
    assert {model: mass["estimate"] for model, mass in entry["mass"].items()} == pytest.approx(masses)
    assert set(entry["change"]) == {"v1", "v2"}
    assert entry["change"]["v2"]["estimate"] == pytest.approx(masses["v2"] - masses["gen_v0"])
    solved = {  # far beyond the 16 samples of a task
        model: (1 - (1 - np.exp(drawn.known.log_prob[model, 0][::2])) ** 1024).mean()
        for model in drawn.models
    }
    assert {model: found["estimate"] for model, found in entry["reach"].items()} == pytest.approx(solved)
    assert entry["reach_change"]["v2"]["estimate"] == pytest.approx(solved["v2"] - solved["gen_v0"])


def test_empty_classes_are_left_out() -> None:
    drawn = study(tasks=2, n=256, resamples=2)
    known = known_of(drawn)
    assert known is not None
    assert all(own.any() for own in classes(drawn, known.programs, known.own, [0]).values())
