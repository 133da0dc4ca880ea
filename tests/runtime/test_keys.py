"""Addressed keys: distinct addresses, stable values, no JAX for host draws."""

from __future__ import annotations

import subprocess
import sys

import jax
import pytest

from constellation.runtime import keys

ADDRESSES = [
    (),
    ("sampling",),
    ("sampling", "v1"),
    ("sampling", "v1", 0),
    ("sampling", "v1", 1),
    ("v1", "sampling", 0),
    ("sampling", "v1", 0, "task"),
    ("samplingv1", 0, "task"),
    ("sampling", "v1", 0, "task", 0),
]


def data(key: jax.Array) -> tuple[int, ...]:
    return tuple(int(x) for x in jax.random.key_data(key))


def test_fold_is_jax_fold_in_of_seed_and_parts():
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(7, impl="threefry2x32"), 3), 5)
    assert data(keys.fold(7, 3, 5)) == data(key)


def test_fold_extends_a_key():
    assert data(keys.fold(keys.fold(7, "sampling"), "v1", 2)) == data(keys.fold(7, "sampling", "v1", 2))


def test_addresses_do_not_collide():
    places = [(seed, *address) for address in ADDRESSES for seed in (0, 1)]
    assert len({data(keys.fold(*place)) for place in places}) == len(places)
    assert len({keys.host_rng(*place).integers(2**63) for place in places}) == len(places)


def test_host_rng_tells_text_from_integer_and_boundaries():
    draws = {keys.host_rng(0, *address).integers(2**63) for address in [(1,), ("1",), ("ab",), ("a", "b")]}
    assert len(draws) == 4


def test_values_are_pinned():
    """A change here changes every stored experiment."""
    assert keys.word("sampling") == 626076162
    assert data(keys.fold(0, "sampling", "v1", 0)) == (2960042222, 1305952734)
    assert keys.host_rng(0, "bank", 1).integers(1000, size=3).tolist() == [644, 767, 889]


@pytest.mark.parametrize("part", [-1, 2**32])
def test_out_of_range(part: int):
    with pytest.raises(ValueError, match="outside"):
        keys.fold(0, part)
    with pytest.raises(ValueError, match="outside"):
        keys.fold(part)


def test_host_rng_imports_no_jax():
    used = "from constellation.runtime.keys import host_rng; host_rng(0).random()"
    program = f"import sys; {used}; assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
