import numpy as np

from constellation.evaluation.entries import entries, plain, points, signed, written_p
from constellation.evaluation.statistics import Estimate


def test_points_have_a_sign_and_zero_has_none() -> None:
    assert [signed(x) for x in (0.031, -0.0312, -0.0001, 0.0)] == ["+3.1", "\u22123.1", "0.0", "0.0"]
    assert points(0.031, -0.01, 0.05) == "+3.1 [\u22121.0, +5.0]"


def test_p_values_are_not_zero() -> None:
    assert [written_p(p) for p in (0.0001, 0.001, 0.0126, 1)] == ["< 0.001", "0.001", "0.013", "1.000"]


def test_a_row_for_each_k() -> None:
    parts = (np.array([0.1 * i, 0.2 * i]) for i in range(7))
    rows = entries("pass@k", "hard", ["v1"], [8, 64], Estimate(*parts), tested=[64])
    assert plain(rows) == [
        {"quantity": "pass@k", "bank": "hard", "models": ["v1"], "question": ""} | numbers
        for numbers in (
            {"k": 8, "estimate": 0, "interval": [0.1, 0.2]},
            {"k": 64, "estimate": 0, "interval": [0.2, 0.4], "p": 1, "tested": True},
        )
    ]


def test_plain_values() -> None:
    value = {1: np.float32(0.5), "a": [np.nan, np.int64(3)], "b": (np.array([1 / 3]), -1e-9, None, True)}
    assert plain(value) == {"1": 0.5, "a": [None, 3], "b": [[0.333333], 0.0, None, True]}
    assert str(plain(-1e-9)) == "0.0"
    assert plain([np.inf, -np.inf, range(2)]) == [None, None, [0, 1]]
