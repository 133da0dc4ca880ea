"""Round trips of everything training saves, kills while saving, damage."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from constellation.checkpoints import restore, save, steps
from constellation.runtime.errors import UserError

ROOT = Path(__file__).parents[1]


@flax.struct.dataclass
class Adapter:
    weights: dict[str, jax.Array]
    scale: float = flax.struct.field(pytree_node=False)


def training_state(seed: int) -> dict:
    """Everything a training run saves, filled by `seed`."""
    key = jax.random.key(seed)
    weights = {"a": jax.random.normal(key, (2, 3)), "b": jax.random.normal(key, (3, 2), jnp.bfloat16)}
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(optax.cosine_decay_schedule(1e-3, 10), weight_decay=0.1)
    )
    _, moments = optimizer.update(weights, optimizer.init(weights), weights)
    return {
        "adapter": Adapter(weights, scale=2.0),
        "optimizer": moments,
        "int4": (jax.random.randint(key, (4, 3), -8, 8)).astype(jnp.int4),
        "keys": (key, jax.random.split(key, 3), jax.random.key(seed, impl="rbg")),
        "cursor": np.array([seed, 2**40]),
        "step": seed,
        "nothing": None,
    }


def assert_same(found, expected) -> None:
    assert str(jax.tree.structure(found)) == str(jax.tree.structure(expected))
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert type(one) is type(other)
        if isinstance(one, jax.Array) and jnp.issubdtype(one.dtype, jax.dtypes.prng_key):
            assert one.dtype == other.dtype
            one, other = jax.random.key_data(one), jax.random.key_data(other)
        one, other = np.asarray(one), np.asarray(other)
        assert one.dtype == other.dtype
        assert one.tobytes() == other.tobytes() and one.shape == other.shape


def test_round_trip_through_a_template(tmp_path):
    metadata = {"config": "abc", "base": {"hash": "def"}, "losses": [1.5, None]}
    save(tmp_path, 3, training_state(3), metadata)
    tree, found, step = restore(tmp_path, template=training_state(0))
    assert_same(tree, training_state(3))
    assert found == metadata and step == 3


def test_abstract_template(tmp_path):
    tree = {"a": jnp.ones((2, 3), jnp.bfloat16), "b": (jnp.zeros(()), jax.random.key(1))}
    save(tmp_path, 0, tree, {})
    assert_same(restore(tmp_path, template=jax.eval_shape(lambda: tree))[0], tree)


def test_without_a_template_nested_dicts(tmp_path):
    state = training_state(1)
    save(tmp_path, 1, state, {})
    tree, _, _ = restore(tmp_path)
    np.testing.assert_array_equal(tree["adapter"]["weights"]["a"], state["adapter"].weights["a"])
    assert isinstance(tree["adapter"]["weights"]["b"], np.ndarray)
    assert tree["int4"].dtype == jnp.int4 and tree["nothing"] is None and tree["step"] == 1
    assert jax.random.uniform(tree["keys"]["0"]) == jax.random.uniform(state["keys"][0])


def test_training_goes_on_as_if_never_stopped(tmp_path):
    optimizer = optax.adamw(1e-1)
    gradient = jax.grad(lambda w: jnp.sum(jnp.sin(w) ** 2))

    def train(w, moments, n):
        for _ in range(n):
            updates, moments = optimizer.update(gradient(w), moments, w)
            w = optax.apply_updates(w, updates)
        return w, moments

    start = jnp.arange(5.0)
    whole, _ = train(start, optimizer.init(start), 6)
    save(tmp_path, 3, train(start, optimizer.init(start), 3), {})
    (w, moments), _, _ = restore(tmp_path, template=(start, optimizer.init(start)))
    np.testing.assert_array_equal(train(w, moments, 3)[0], whole)


def test_keeps_the_last_two(tmp_path):
    assert steps(tmp_path / "nowhere") == [] and steps(tmp_path) == []
    for step in (1, 5, 9):
        save(tmp_path, step, {"x": jnp.full(3, step)}, {"step": step})
    assert steps(tmp_path) == [5, 9]
    tree, metadata, step = restore(tmp_path, step=5)
    assert tree["x"].tolist() == [5, 5, 5] and metadata == {"step": 5} and step == 5


def test_saving_a_step_again_replaces_it(tmp_path):
    for value in (1, 2):
        save(tmp_path, 7, {"x": jnp.full(3, value)}, {})
    assert restore(tmp_path)[0]["x"].tolist() == [2, 2, 2]


def test_what_is_not_there(tmp_path):
    with pytest.raises(UserError, match="no checkpoint in"):
        restore(tmp_path / "nowhere")
    save(tmp_path, 2, {"x": jnp.zeros(1)}, {})
    with pytest.raises(UserError, match=r"no step 3 .*there are: 2"):
        restore(tmp_path, step=3)


@pytest.mark.parametrize(
    "template, message",
    [
        ({"x": jnp.zeros((3, 2))}, r"\['x'\] is float32\[2, 3\], not float32\[3, 2\]"),
        ({"x": jnp.zeros((2, 3), jnp.bfloat16)}, r"float32\[2, 3\], not bfloat16\[2, 3\]"),
        ({"y": jnp.zeros((2, 3))}, "is a checkpoint of something else"),
        ({"x": jnp.zeros((2, 3)), "y": jnp.zeros(1)}, "is a checkpoint of something else"),
        ({"x": jax.random.key(0)}, r"float32\[2, 3\], not key<fry>\[\]"),
    ],
)
def test_a_template_of_something_else(tmp_path, template, message):
    save(tmp_path, 1, {"x": jnp.zeros((2, 3))}, {})
    with pytest.raises(UserError, match=message):
        restore(tmp_path, template=template)


def files(step: Path) -> list[Path]:
    return sorted(path for path in step.rglob("*") if path.is_file())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Orbax's own threads
def test_damage_to_any_file_is_noticed_or_harmless(tmp_path, capsys):
    """Every file of the last step, truncated, changed or removed: its true content or the step before."""
    original = tmp_path / "original"
    for step in (1, 2):
        save(original, step, {"x": jnp.arange(1000.0) * step, "key": jax.random.key(step)}, {"step": step})
    fallbacks = 0
    for damaged in files(original / "2"):
        for kind in ("truncate", "flip", "digit", "remove"):
            root = tmp_path / "damaged"
            shutil.copytree(original, root)
            file = root / damaged.relative_to(original)
            content = file.read_bytes()
            file.unlink()
            if kind == "truncate":
                file.write_bytes(content[: len(content) // 2])
            elif kind == "flip":
                middle = len(content) // 2
                file.write_bytes(content[:middle] + bytes([content[middle] ^ 0x10]) + content[middle + 1 :])
            elif kind == "digit":  # JSON stays JSON
                file.write_bytes(content.replace(b"2", b"1"))
            tree, metadata, step = restore(root)
            assert metadata == {"step": step}
            np.testing.assert_array_equal(tree["x"], np.arange(1000, dtype=np.float32) * step)
            warned = capsys.readouterr().err
            if step == 1:
                fallbacks += 1
            # Without its commit marks a step was never finished: nothing to warn of.
            assert ("step 2 in" in warned and "is damaged" in warned) == (step == 1 and 2 in steps(root))
            shutil.rmtree(root)
    assert fallbacks >= 3  # at least the array's data


def test_all_damaged(tmp_path):
    save(tmp_path, 1, {"x": jnp.arange(1000.0)}, {})
    for file in files(tmp_path / "1" / "state"):
        if file.parent.name == "d":
            file.write_bytes(b"")
    with pytest.raises(UserError, match=f"the checkpoint in {tmp_path} is damaged: delete it"):
        restore(tmp_path)
    with pytest.raises(UserError, match="damaged"):
        restore(tmp_path, step=1)


def test_disk_full_keeps_the_step_before(tmp_path):
    tree = {"x": np.random.default_rng(0).standard_normal(1 << 17)}
    save(tmp_path, 1, tree, {})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 18, hard))  # the array does not fit a file any more
    try:
        with pytest.raises(UserError, match=r"no space left for .*same command"):
            save(tmp_path, 2, tree, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert steps(tmp_path) == [1]
    np.testing.assert_array_equal(restore(tmp_path)[0]["x"], tree["x"])
    save(tmp_path, 2, tree, {})
    assert steps(tmp_path) == [1, 2]


# Saves steps as fast as it can, each array full of its step, and says when one is committed.
SAVE_FOR_EVER = """
import itertools, sys
import jax.numpy as jnp
from constellation.checkpoints import save, steps
for step in itertools.count(max(steps(sys.argv[1]), default=0) + 1):
    save(sys.argv[1], step, {"x": jnp.full(50_000, step), "y": {"z": jnp.full((), step)}}, {"step": step})
    print(step, flush=True)
"""


def test_kill_while_saving(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    committed = 0
    for saves, delay in ((1, 0.01), (2, 0.025), (3, 0.04)):
        process = subprocess.Popen(
            [sys.executable, "-c", SAVE_FOR_EVER, str(tmp_path)],
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        for _ in range(saves):
            committed = int(process.stdout.readline())
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=delay)
        os.kill(process.pid, signal.SIGKILL)
        rest, _ = process.communicate()
        committed = max([committed, *map(int, rest.split())])
        tree, metadata, step = restore(tmp_path)
        assert step >= committed  # the one being saved may have made it
        assert metadata == {"step": step}
        assert (tree["x"] == step).all() and tree["y"]["z"] == step
