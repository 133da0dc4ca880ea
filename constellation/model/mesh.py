"""A model on several devices: a mesh of `data` x `model`, on JAX's own sharding.

Each slice along `data` holds the whole model and takes its share of a batch's rows or of the tasks that are
sampled. Along `model` the weights themselves are divided, by heads, by hidden units of the MLP and by the
vocabulary (1909.08053, section 3); XLA's partitioner adds the communication.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from constellation.model.config import ModelConfig
from constellation.runtime.errors import UserError

DATA, MODEL = "data", "model"
REPLICATED = PartitionSpec()
ROWS = PartitionSpec(DATA)
# The axes along which a leaf of this name may be divided: the first that the mesh divides evenly is, or none.
_BY_OUTPUT, _BY_INPUT, _BY_TOKEN = (1, 2), (2, 1), (0,)
_AXES = {
    "q_proj": _BY_OUTPUT, "k_proj": _BY_OUTPUT, "v_proj": _BY_OUTPUT, "o_proj": _BY_INPUT,
    "gate_proj": _BY_OUTPUT, "up_proj": _BY_OUTPUT, "down_proj": _BY_INPUT,
    "embed": _BY_TOKEN, "lm_head": _BY_TOKEN,
}  # fmt: skip


def make_mesh(data: int = 1, model: int = 1) -> Mesh:
    """The first data * model devices, those of a slice next to each other.

    Raises:
        UserError: there are fewer devices, or a slice would span two processes.
    """
    devices, needed = jax.devices(), data * model
    if needed > len(devices):
        raise UserError(
            f"config.mesh asks for {data} x {model} devices, and there are {len(devices)}: "
            "lower mesh.data or mesh.model"
        )
    grid = np.array(devices[:needed]).reshape(data, model)
    if any(len({device.process_index for device in slice}) > 1 for slice in grid):
        raise UserError(
            f"config.mesh.model = {model} spans processes: use a divisor of the {jax.local_device_count()} "
            "devices of one"
        )
    return Mesh(grid, (DATA, MODEL), axis_types=(AxisType.Auto,) * 2)


def check_mesh(config: ModelConfig, mesh: Mesh) -> None:
    """Refuses to divide key/value heads, whose cache lies with them.

    Raises:
        UserError: mesh.model does not divide their number.
    """
    if config.num_key_value_heads % mesh.shape[MODEL]:
        raise UserError(
            f"config.mesh.model = {mesh.shape[MODEL]} does not divide the model's "
            f"{config.num_key_value_heads} key/value heads: use a divisor"
        )


def put(name: str, leaf: Any, mesh: Mesh) -> Any:
    """Puts a leaf of the parameters, dense or quantised, onto the mesh; `name` is that of `port.leaves`."""
    axes = _AXES.get(name.removeprefix("layers/"), ())

    def one(array: Any) -> jax.Array:
        axis = next((axis for axis in axes if array.shape[axis] % mesh.shape[MODEL] == 0), None)
        spec = REPLICATED if axis is None else PartitionSpec(*[None] * axis, MODEL)
        return jax.device_put(array, NamedSharding(mesh, spec))

    return jax.tree.map(one, leaf)


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Copies arrays to every device; where there are several processes, each has to hold the same values."""
    everywhere = NamedSharding(mesh, REPLICATED)
    return jax.tree.map(lambda leaf: jax.device_put(np.asarray(leaf), everywhere), tree)


def local_slices(mesh: Mesh) -> list[tuple[int, Mesh]]:
    """(index along `data`, mesh of 1 x model) of every slice whose devices are this process's."""
    here = jax.process_index()
    return [
        (index, Mesh(devices[None], mesh.axis_names, axis_types=mesh.axis_types))
        for index, devices in enumerate(mesh.devices)
        if devices[0].process_index == here
    ]


def on_slice(tree: Any, mesh: Mesh, slice: Mesh) -> Any:
    """A tree on `mesh`, which repeats it along `data`, as seen by one slice; nothing is copied."""
    if mesh.shape[DATA] == 1:
        return tree
    devices = set(slice.devices.flat)

    def one(leaf: jax.Array) -> jax.Array:
        assert isinstance(leaf.sharding, NamedSharding)
        shards = [shard.data for shard in leaf.addressable_shards if shard.device in devices]
        sharding = NamedSharding(slice, leaf.sharding.spec)
        return jax.make_array_from_single_device_arrays(leaf.shape, sharding, shards)

    return jax.tree.map(one, tree)


def is_divided() -> bool:
    """Whether what is being traced works on weights divided along `model`; see `dividing`."""
    return jax.sharding.get_abstract_mesh().shape.get(MODEL, 1) > 1


def dividing(mesh: Mesh) -> contextlib.AbstractContextManager[Any]:
    """A context in which traced code knows the mesh."""
    return jax.sharding.use_abstract_mesh(mesh.abstract_mesh)


def over_rows(function: Callable[..., Any], mesh: Mesh, reduce: bool) -> Callable[..., Any]:
    """A function (anything replicated along `data` ..., rows) -> tree, run by every slice on its own rows.

    `reduce` says whether the results are added up over the slices, or are rows themselves.
    """

    def on_a_slice(*args: Any) -> Any:
        result = function(*args)
        return jax.lax.psum(result, DATA) if reduce else result

    def mapped(*args: Any) -> Any:
        if mesh.shape[DATA] == 1:
            with dividing(mesh):
                return function(*args)
        in_specs = (*[REPLICATED] * (len(args) - 1), ROWS)
        out_specs = REPLICATED if reduce else ROWS
        # XLA's partitioner fails on what is left to it along an axis of one device.
        divided = {DATA} if mesh.shape[MODEL] > 1 else {DATA, MODEL}
        return jax.shard_map(
            on_a_slice, mesh=mesh, in_specs=in_specs, out_specs=out_specs, axis_names=divided, check_vma=False
        )(*args)

    return mapped
