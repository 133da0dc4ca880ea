"""Dotted names, against those that Flax gives."""

from __future__ import annotations

from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from constellation.runtime.nested import dotted

TREE = {"seed": 1, "star": {"keep": (1, 2), "deep": {"b": None, "a": 0.5}}, "last": "x"}


def test_names_in_the_trees_own_order():
    assert list(dotted(TREE).items()) == [
        ("seed", 1),
        ("star.keep", (1, 2)),
        ("star.deep.b", None),
        ("star.deep.a", 0.5),
        ("last", "x"),
    ]


def test_a_config_is_a_mapping():
    assert dotted(ConfigDict(TREE)) == dotted(TREE) == flatten_dict(TREE, sep=".")


def test_an_empty_mapping_is_a_leaf():
    assert dotted({"a": {"b": {}}}) == {"a.b": {}} and dotted({}) == {}
