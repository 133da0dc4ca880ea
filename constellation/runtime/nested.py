"""Nested mappings by their leaves' dotted names."""

from __future__ import annotations

from typing import Any


def dotted(tree: Any) -> dict[str, Any]:
    """Dotted name -> leaf, in the tree's own order: {"a": {"b": 1}} is {"a.b": 1}.

    The tree is mappings, ConfigDicts among them, by strings; an empty one below the root is a leaf.
    """
    found: dict[str, Any] = {}
    for name, value in tree.items():
        if hasattr(value, "items") and value:
            found |= {f"{name}.{below}": leaf for below, leaf in dotted(value).items()}
        else:
            found[name] = value
    return found
