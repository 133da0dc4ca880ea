"""One, two, four and eight devices, in one process and in two, compute the same."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from constellation.model.families import FAMILIES
from constellation.model.int4_product import choose, dequantised, pallas
from constellation.model.mesh import check_mesh, is_divided, make_mesh
from constellation.runtime.errors import UserError
from tests.model.on_mesh import CONFIG

ROOT = Path(__file__).parents[2]
MESHES = [("qwen3", *mesh) for mesh in ((1, 1), (2, 1), (1, 2), (4, 2))]
MESHES += [(name, *mesh) for name in FAMILIES if name != "qwen3" for mesh in ((1, 1), (1, 2), (2, 2))]


def start(
    out: Path,
    environment: dict[str, str],
    meshes: list[tuple[str, int, int]],
    processes: int = 1,
    index: int = 0,
    port: int = 0,
) -> subprocess.Popen:
    arguments = [json.dumps(x) for x in (str(out), meshes, processes, index, port)]
    return subprocess.Popen(
        [sys.executable, "-m", "tests.model.on_mesh", *arguments],
        cwd=ROOT,
        env=environment,
    )


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory, virtual_devices: Callable[[int], dict[str, str]]) -> Path:
    """What every mesh computed, alone and in two processes of two devices each."""
    directory = tmp_path_factory.mktemp("meshes")
    assert start(directory, virtual_devices(8), MESHES).wait() == 0
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    both = [start(directory, virtual_devices(2), [("qwen3", 2, 2)], 2, index, port) for index in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    return directory


NAMES = [f"{name}_{data}x{model}_of_1_0" for name, data, model in MESHES if data * model > 1]
NAMES += ["qwen3_2x2_of_2_0", "qwen3_2x2_of_2_1"]


@pytest.mark.parametrize("name", NAMES)
def test_equals_one_device(name: str, out: Path) -> None:
    family, _, _ = name.rpartition("_of_")[0].rpartition("_")
    with np.load(out / f"{family}_1x1_of_1_0.npz") as one, np.load(out / f"{name}.npz") as other:
        # Rounding differs between meshes, and no draw here is decided by it.
        np.testing.assert_array_equal(one["ids"], other["ids"])
        np.testing.assert_array_equal(one["lengths"], other["lengths"])
        for quantity in ("scores", "answers", "loss", "change"):
            scale = np.abs(one[quantity]).max()
            np.testing.assert_allclose(other[quantity], one[quantity], rtol=0, atol=1e-5 * scale)


def test_what_cannot_be_divided_is_refused() -> None:
    count = len(jax.devices())
    with pytest.raises(UserError, match=rf"{count + 1} x 1 devices, and there are {count}"):
        make_mesh(count + 1)

    three = SimpleNamespace(shape={"data": 1, "model": 3})
    with pytest.raises(UserError, match=r"mesh\.model = 3 does not divide the model's 2 key/value heads"):
        check_mesh(CONFIG, three)  # type: ignore[arg-type]


def test_divided_weights_are_multiplied_by_what_xla_can_partition() -> None:
    mesh = jax.make_mesh((1, 1), ("data", "model")).abstract_mesh.update(axis_sizes=(1, 2))
    assert not is_divided()
    with jax.sharding.use_abstract_mesh(mesh):
        assert is_divided()
    assert choose(64, 2560, 128, "bfloat16", "gpu") is pallas
    assert choose(64, 2560, 128, "bfloat16", "divided") is dequantised
