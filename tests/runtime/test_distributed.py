"""What processes send each other: JSON and arrays, and nothing that is run when it is read."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from constellation.runtime.distributed import pack, unpack

ROOT = Path(__file__).parents[2]
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | arrays.arrays(
        arrays.scalar_dtypes().filter(lambda dtype: dtype.kind in "biuf" and dtype.isnative),
        arrays.array_shapes(min_dims=0, min_side=0, max_side=3),
    ),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


def same(one: Any, other: Any) -> bool:
    """Equal in types, dtypes, shapes and every bit."""
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, np.ndarray):
        kinds = [(array.dtype, array.shape, array.tobytes()) for array in (one, other)]
        return kinds[0] == kinds[1]
    return type(one) is type(other) and one == other


@given(VALUES)
def test_what_is_packed_is_unpacked(value: Any) -> None:
    assert same(unpack(pack(value)), value)


@pytest.mark.parametrize("dtype", ["bfloat16", "int4", "float8_e4m3fn", "float16", "bool"])
def test_every_dtype_of_a_model(dtype: str) -> None:
    array = np.arange(6).reshape(2, 3).astype(jnp.dtype(dtype))
    found = unpack(pack({"odd": "x", "weights": [array, np.float32(2.5)]}))
    assert same(found["weights"][0], array)
    assert found["weights"][1] == 2.5 and found["weights"][1].dtype == np.float32


@pytest.mark.parametrize("value", [{1}, b"bytes", print, Path("x"), np.array([print]), object()])
def test_nothing_else_is_sent(value: object) -> None:
    with pytest.raises(TypeError, match="neither JSON nor an array"):
        pack([value])


def test_no_pickle_is_read() -> None:
    """Neither by name nor through numpy, which is asked for one by allow_pickle alone."""
    folders = ("constellation", "launch", "configs", "third_party")
    files = [file for folder in folders for file in (ROOT / folder).rglob("*.py")]
    assert len(files) > 100
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            match node:
                case ast.Import(names=names):
                    imported = {name.name.partition(".")[0] for name in names}
                case ast.ImportFrom(module=str(module)):
                    imported = {module.partition(".")[0]}
                case ast.keyword(arg="allow_pickle", value=ast.Constant(value=False)):
                    continue
                case ast.keyword(arg="allow_pickle"):
                    imported = {"pickle"}
                case _:
                    continue
            assert not imported & {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}, file
