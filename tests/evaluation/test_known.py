import pytest

from constellation.evaluation.known import generalising
from constellation.runtime.errors import UserError
from tests.evaluation.synthetic import sample_set, study


def test_counts_right_programs_among_the_first_samples() -> None:
    drawn = sample_set([["right a", "fits:x:1", "right a", "false b"], ["junk", "right a", "right c", "bad"]])
    assert generalising(drawn, 4) == {
        (0, "right a"): 2,
        (0, "false b"): 1,
        (1, "right a"): 1,
        (1, "right c"): 1,
    }
    assert generalising(drawn, 2) == {(0, "right a"): 1, (1, "right a"): 1}


def test_refuses_more_samples_than_there_are() -> None:
    with pytest.raises(UserError, match="lower evaluation"):
        generalising(sample_set([["right a"]]), 2)


def test_the_base_is_the_same_in_every_trajectory() -> None:
    known = study(tasks=3, trajectories=2, resamples=2).known
    assert known is not None
    assert known.models == ("theta0", "gen_v0", "v1", "v2")
    assert known.of("theta0", 1) is known.of("theta0", 0)
    assert (known.of("v2", 1) != known.of("v2", 0)).any()
