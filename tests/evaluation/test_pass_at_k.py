from fractions import Fraction
from itertools import combinations
from math import comb

import numpy as np
import pytest
from scipy.stats import hypergeom

from constellation.evaluation.pass_at_k import pass_at_k, pass_curve
from constellation.runtime.errors import UserError


def exact(n: int, c: int, k: int) -> Fraction:
    return 1 - Fraction(comb(n - c, k), comb(n, k))


def test_every_small_case_is_exact() -> None:
    cases = [(n, c, k) for n in range(1, 13) for c in range(n + 1) for k in range(1, n + 1)]
    values = pass_at_k(*np.array(cases).T)
    np.testing.assert_allclose(values, [float(exact(*case)) for case in cases], rtol=0, atol=1e-13)


def test_the_studys_pools_are_exact() -> None:
    cases = [(n, c, k) for n in (128, 256) for c in (0, 1, 2, 7, 60, n - 1, n) for k in (1, 8, 64, n)]
    values = pass_at_k(*np.array(cases).T)
    np.testing.assert_allclose(values, [float(exact(*case)) for case in cases], rtol=1e-11, atol=1e-12)


def test_agrees_with_scipys_hypergeometric_distribution() -> None:
    n, c, k = 200, np.arange(201)[:, None], np.arange(1, 201)[None, :]
    np.testing.assert_allclose(pass_at_k(n, c, k), hypergeom.sf(0, n, c, k), rtol=1e-9, atol=1e-12)


def test_is_zero_or_one_exactly_where_it_must_be() -> None:
    assert (pass_at_k(128, 0, np.arange(1, 129)) == 0).all()
    assert (pass_at_k(128, 65, np.arange(64, 129)) == 1).all()


def test_curve_is_the_mean_over_all_subsets() -> None:
    correct = np.array([[1, 0, 0, 1, 0, 0], [0, 0, 1, 0, 0, 0], [0] * 6], bool)
    for k in (1, 2, 3, 6):
        expected = [np.mean([any(row[list(s)]) for s in combinations(range(6), k)]) for row in correct]
        np.testing.assert_allclose(pass_curve(correct, [k])[:, 0], expected, atol=1e-12)


def test_refuses_more_draws_than_samples() -> None:
    with pytest.raises(UserError, match="pass@64 needs at least 64 samples a task, there are 32"):
        pass_curve(np.zeros((3, 32), bool), [1, 64])
