"""Training state and ported weights on the disk; the only file that knows Orbax.

A checkpoint directory holds one folder a step. What is saved is small: adapters, optimizer state, keys,
data cursor, and a metadata dict with the hashes of config and base model; never the frozen base. On the disk
a tree is its Flax state dict: nested dicts of arrays, typed PRNG keys and scalars. Of several processes the
first alone writes and reads, and tells the others.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import flax.serialization
import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging

from constellation.runtime.distributed import from_first
from constellation.runtime.errors import UserError
from constellation.runtime.files import disk_full_is_user_error

_KEPT = 2


def save(directory: str | os.PathLike[str], step: int, tree: Any, metadata: dict[str, Any]) -> None:
    """Writes a step, and returns when it is committed; keeps it and the step before.

    After a kill at any moment `restore` finds this step whole, or the one before. A step of the same number
    is replaced, as a resumed run does that fell back. `tree` is any pytree that Flax can serialise: dicts,
    tuples, optax states, dataclasses of arrays. `metadata` is JSON values.

    Raises UserError: the disk is full; earlier steps are intact.
    """
    if jax.process_index() != 0:
        return
    root = Path(directory).absolute()
    state, keys = _to_host(flax.serialization.to_state_dict(tree))
    described: dict[str, Any] = {"user": metadata, "keys": keys}
    described["digest"] = _digest(state, described)
    with disk_full_is_user_error(root), _manager(root) as manager:
        if step in manager.all_steps():
            manager.delete(step)
        items = ocp.args.Composite(state=ocp.args.StandardSave(state), metadata=ocp.args.JsonSave(described))
        manager.save(step, args=items, force=True)


def steps(directory: str | os.PathLike[str]) -> list[int]:
    """The committed steps, oldest first; empty when there is no such directory."""
    root = Path(directory).absolute()
    found = sorted(ocp.utils.checkpoint_steps(root)) if root.is_dir() else []
    return from_first(found)


def restore(
    directory: str | os.PathLike[str], template: Any = None, step: int | None = None
) -> tuple[Any, dict[str, Any], int]:
    """Reads a step back: (tree, metadata, step).

    Args:
        template: a tree of the saved one's structure, shapes and dtypes (values unused), whose types the
            result gets, with JAX arrays where it has them or ShapeDtypeStructs; None gives nested dicts of
            numpy arrays.
        step: which; None means the last good one, with a warning when later ones are damaged.

    Raises:
        UserError: there is no checkpoint, no such step, none that is whole, or it does not fit the template.
    """
    root = Path(directory).absolute()
    found = steps(root)
    if not found:
        raise UserError(
            f"no checkpoint in {directory}: give a directory that training wrote, with a finished step"
        )
    if step is not None and step not in found:
        raise UserError(f"no step {step} in {directory}; there are: {', '.join(map(str, found))}")
    candidates = found[::-1] if step is None else [step]
    good = _first_good(root, candidates) if jax.process_index() == 0 else None
    if (good := from_first(good)) is not None:
        state, described, candidate = good
        state = _with_keys(state, described["keys"])
        return _fit(template, state, f"{directory}, step {candidate}"), described["user"], candidate
    remedy = "delete it and train again" if step is None else f"there are: {', '.join(map(str, found))}"
    raise UserError(f"the checkpoint in {directory} is damaged: {remedy}")


def _first_good(root: Path, candidates: list[int]) -> tuple[dict[str, Any], dict[str, Any], int] | None:
    """(state dict, what describes it, step) of the first step that is whole; warns of those before it."""
    for candidate in candidates:
        try:
            return (*_read(root, candidate), candidate)
        except Exception as error:  # a damaged file surfaces as whatever the library below tripped over
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            print(f"warning: step {candidate} in {root} is damaged ({reason[:100]})", file=sys.stderr)
    return None


def save_array(directory: str | os.PathLike[str], array: np.ndarray) -> None:
    """Writes one array, at its directory's name whole or not at all; what is there is replaced.

    Raises UserError: the disk is full.
    """
    root = Path(directory).absolute()
    with disk_full_is_user_error(root), _array_checkpointer() as checkpointer:
        checkpointer.save(root, args=ocp.args.ArraySave(array), force=True)


def load_array(directory: str | os.PathLike[str]) -> np.ndarray:
    """Reads what `save_array` wrote. Raises UserError: it is not there, or damaged."""
    root = Path(directory).absolute()
    try:
        with _array_checkpointer() as checkpointer:
            return np.asarray(checkpointer.restore(root))
    except Exception as error:  # as in `restore`
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{directory} is missing or damaged ({reason[:100]}): write it again") from None


@contextmanager
def _array_checkpointer() -> Iterator[ocp.Checkpointer]:
    handler = ocp.ArrayCheckpointHandler()
    with _silent(), ocp.Checkpointer(handler) as checkpointer:
        yield checkpointer


@contextmanager
def _manager(root: Path) -> Iterator[ocp.CheckpointManager]:
    root.mkdir(parents=True, exist_ok=True)
    # Orbax would wait for the other processes.
    alone = (
        ocp.options.MultiprocessingOptions(active_processes={0}, barrier_sync_key_prefix="first")
        if jax.process_count() > 1
        else ocp.options.MultiprocessingOptions()
    )
    options = ocp.CheckpointManagerOptions(
        max_to_keep=_KEPT,
        enable_async_checkpointing=False,
        create=False,
        multiprocessing_options=alone,
    )
    handlers = {
        "state": ocp.StandardCheckpointHandler(multiprocessing_options=alone),
        "metadata": ocp.JsonCheckpointHandler(multiprocessing_options=alone),
    }
    with _silent(), ocp.CheckpointManager(root, options=options, item_handlers=handlers) as manager:
        yield manager


@contextmanager
def _silent() -> Iterator[None]:
    """Without Orbax's log: its threads write the tracebacks of errors that it raises as well."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.FATAL)
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


def _read(root: Path, step: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """One step's state dict of numpy arrays and what describes it: the user's metadata, and which are keys.

    Raises what the libraries do when files are damaged.
    """
    items = ocp.args.Composite(state=ocp.args.StandardRestore(), metadata=ocp.args.JsonRestore())
    with _manager(root) as manager:
        found = manager.restore(step, args=items)
    state, described = found["state"], found["metadata"]
    if described.pop("digest") != _digest(state, described):
        raise ValueError("its content does not match its digest")
    return state, described


def _to_host(state: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The state dict with numpy leaves, and the implementation of each typed key by its path.

    Numpy because Orbax restores JAX arrays only onto the devices of the machine that saved them.
    """
    keys: dict[str, str] = {}

    def leaf(path: tuple[Any, ...], value: Any) -> Any:
        if isinstance(value, jax.Array):
            if jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
                keys[json.dumps([entry.key for entry in path])] = str(jax.random.key_impl(value))
                value = jax.random.key_data(value)
            return np.asarray(value)
        return value

    return jax.tree_util.tree_map_with_path(leaf, state), keys


def _with_keys(state: dict[str, Any], keys: dict[str, str]) -> dict[str, Any]:
    """The state dict with typed keys again where `_to_host` found some."""
    for path, implementation in keys.items():
        *parents, name = json.loads(path)
        holder = state
        for parent in parents:
            holder = holder[parent]
        holder[name] = jax.random.wrap_key_data(holder[name], impl=implementation)
    return state


def _digest(state: dict[str, Any], described: dict[str, Any]) -> str:
    """Hash of what describes the state, and of every leaf with its path, dtype and shape."""
    content = hashlib.blake2b(json.dumps(described, sort_keys=True).encode(), digest_size=16)
    for path, value in jax.tree_util.tree_leaves_with_path(state):
        array = np.asarray(value)
        content.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        content.update(array.tobytes())
    return content.hexdigest()


def _fit(template: Any, state: dict[str, Any], where: str) -> Any:
    """The state in the template's types. Raises UserError when names, shapes or dtypes differ."""
    if template is None:
        return state
    try:
        tree = flax.serialization.from_state_dict(template, state)
        return jax.tree_util.tree_map_with_path(_fit_leaf, template, tree)
    except ValueError as error:
        raise UserError(f"{where} is a checkpoint of something else: {str(error).splitlines()[0]}") from error


def _fit_leaf(path: tuple[Any, ...], wanted: Any, found: Any) -> Any:
    if not hasattr(wanted, "shape"):
        return found
    described = [f"{getattr(x, 'dtype', type(x).__name__)}{list(np.shape(x))}" for x in (wanted, found)]
    if described[0] != described[1]:
        raise ValueError(f"{jax.tree_util.keystr(path)} is {described[1]}, not {described[0]}")
    return jax.numpy.asarray(found) if isinstance(wanted, (jax.Array, jax.ShapeDtypeStruct)) else found
