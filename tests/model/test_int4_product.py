"""Every way of multiplying by int4 against a product in float64, and under JAX's transformations."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import ClosedJaxpr, Jaxpr

from constellation.model import int4_product as module
from constellation.model.decoder import Params, decode_step
from constellation.model.int4_product import (
    Way,
    blocks,
    choose,
    dequantised,
    groupwise,
    int4_product,
    pallas,
    per_channel,
)
from constellation.model.quantize import quantize
from tests.model.tiny import CONFIG, params_and_adapter
from tests.tiny_study import ROOT

interpreted = functools.wraps(pallas)(functools.partial(pallas, interpret=True))
WAYS: list[Way] = [dequantised, groupwise, interpreted]
DTYPES = [jnp.float32, jnp.bfloat16]
# rows, out, groups, group: one, odd and even numbers, of blocks and beyond
SHAPES = [(1, 16, 1, 16), (3, 40, 3, 32), (17, 65, 2, 48), (130, 130, 2, 256)]


def operands(
    rows: tuple[int, ...], out: int, groups: int, group: int, dtype: jax.typing.DTypeLike = jnp.float32
) -> tuple[jax.Array, jax.Array, jax.Array]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(*rows, groups * group))
    qvalue = rng.integers(-8, 8, (out, groups, group))
    scale = 10.0 ** rng.uniform(-2, 0, (out, groups, 1))
    return jnp.asarray(x, dtype), jnp.asarray(qvalue, jnp.int4), jnp.asarray(scale, dtype)


def exact_weight(qvalue: jax.Array, scale: jax.Array) -> np.ndarray:
    groups = np.asarray(qvalue).astype(np.float64) * np.asarray(scale).astype(np.float64)
    return groups.reshape(groups.shape[0], -1)


def check_product(y: jax.Array, x: jax.Array, weight: np.ndarray) -> None:
    """Within what rounding allows: of the weight and of y to the dtype, and of the sums to float32."""
    x64 = np.asarray(x).astype(np.float64)
    error = np.abs(np.asarray(y).astype(np.float64) - x64 @ weight.T)
    rounded = float(jnp.finfo(x.dtype).eps)  # half of it for the weight, half for y
    summed = x.shape[-1] * float(jnp.finfo(jnp.float32).eps)
    assert y.dtype == x.dtype
    assert (error <= (rounded + summed) * (np.abs(x64) @ np.abs(weight).T)).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("way", WAYS)
def test_the_product(way: Way, shape: tuple[int, int, int, int], dtype: jax.typing.DTypeLike) -> None:
    x, qvalue, scale = operands(shape[:1], *shape[1:], dtype)
    check_product(way(x, qvalue, scale), x, exact_weight(qvalue, scale))


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_product_with_one_scale_an_output(dtype: jax.typing.DTypeLike) -> None:
    x, qvalue, scale = operands((5,), 40, 1, 96, dtype)
    for way in (per_channel, *WAYS):
        check_product(way(x, qvalue, scale), x, exact_weight(qvalue, scale))
    with pytest.raises(ValueError, match="not 3"):
        per_channel(*operands((5,), 40, 3, 32, dtype))


def test_the_kernel_refuses_a_group_that_its_tiles_do_not_divide() -> None:
    with pytest.raises(ValueError, match="24"):
        interpreted(*operands((5,), 40, 3, 24))


@pytest.mark.parametrize("lead", [(), (2, 3)])
@pytest.mark.parametrize("way", [*WAYS, int4_product])
def test_any_leading_axes(way: Way, lead: tuple[int, ...]) -> None:
    x, qvalue, scale = operands(lead, 20, 2, 16)
    check_product(way(x, qvalue, scale), x, exact_weight(qvalue, scale))


@pytest.fixture
def choose_by(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., Way]], None]:
    """choose_by(function): `int4_product` takes the way that the function names."""
    return lambda function: monkeypatch.setattr(module, "choose", function)


@pytest.fixture(params=WAYS)
def chosen(request: pytest.FixtureRequest, choose_by: Callable) -> Way:
    """A way that `int4_product` takes for every shape."""
    choose_by(lambda *_: request.param)
    return request.param


@pytest.mark.usefixtures("chosen")
def test_the_gradient_is_the_dense_weights() -> None:
    x, qvalue, scale = operands((2, 7), 20, 2, 16)
    dy = jnp.asarray(np.random.default_rng(1).normal(size=(2, 7, 20)), jnp.float32)
    y, pull_back = jax.vjp(lambda x: int4_product(x, qvalue, scale), x)
    weight = exact_weight(qvalue, scale)
    check_product(y, x, weight)
    check_product(pull_back(dy)[0], dy, weight.T)
    of_samples = jax.vmap(jax.grad(lambda x, dy: jnp.vdot(int4_product(x, qvalue, scale), dy)))(x, dy)
    check_product(of_samples, dy, weight.T)


def equations(jaxpr: Jaxpr) -> Iterator[str]:
    """The primitives' names, of inner computations, too."""
    for equation in jaxpr.eqns:
        yield equation.primitive.name
        for inner in jax.tree.leaves(
            equation.params, is_leaf=lambda leaf: isinstance(leaf, Jaxpr | ClosedJaxpr)
        ):
            if isinstance(inner, Jaxpr | ClosedJaxpr) and equation.primitive.name != "pallas_call":
                yield from equations(inner.jaxpr if isinstance(inner, ClosedJaxpr) else inner)


def test_samples_under_vmap_are_the_rows_of_one_kernel(choose_by: Callable) -> None:
    rows_of_calls = []

    def interpreted_always(rows: int, *_: object) -> Way:
        rows_of_calls.append(rows)
        return interpreted

    choose_by(interpreted_always)
    x, qvalue, scale = operands((3, 5), 20, 2, 16)
    over_samples = jax.vmap(jax.vmap(lambda x: jax.checkpoint(int4_product)(x, qvalue, scale)))
    jaxpr = jax.make_jaxpr(over_samples)(x)
    assert rows_of_calls[-1] == 15
    assert [*equations(jaxpr.jaxpr)].count("pallas_call") == 1
    assert all(aval.shape == (3, 5, 20) for aval in jaxpr.out_avals)
    check_product(jax.jit(over_samples)(x), x, exact_weight(qvalue, scale))


@pytest.mark.usefixtures("chosen")
def test_weights_may_be_mapped_too() -> None:
    x, qvalue, scale = operands((4,), 20, 2, 16)
    scales = jnp.stack([scale, 2 * scale])
    y = jax.vmap(int4_product, (None, None, 0))(x, qvalue, scales)
    for index in range(2):
        check_product(y[index], x, exact_weight(qvalue, scales[index]))


@pytest.mark.parametrize("transform", [lambda f: f, jax.grad, jax.vmap], ids=["forward", "grad", "vmap"])
def test_a_scan_keeps_no_dequantised_layers(transform: Callable) -> None:
    layers, width = 24, 512
    qvalue = jax.ShapeDtypeStruct((layers, width, width // 32, 32), jnp.int4)
    scale = jax.ShapeDtypeStruct((layers, width, width // 32, 1), jnp.float32)

    def network(x: jax.Array, qvalue: jax.Array, scale: jax.Array) -> jax.Array:
        def layer(x: jax.Array, weight: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
            return jnp.tanh(int4_product(x, *weight)), None

        return jax.lax.scan(layer, x, (qvalue, scale))[0].sum()

    def run(x: jax.Array, qvalue: jax.Array, scale: jax.Array) -> jax.Array:
        return transform(lambda x: network(x, qvalue, scale))(x)

    x = jax.ShapeDtypeStruct((2, width), jnp.float32)
    memory = jax.jit(run).lower(x, qvalue, scale).compile().memory_analysis()
    dense = 4 * width * width  # bytes of a layer
    # XLA:CPU unpacks the int4 of all layers to a byte each: a quarter of a dense one.
    assert memory is not None and memory.temp_size_in_bytes < (layers / 4 + 3) * dense


SHARDED = """
import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from constellation.model.int4_product import int4_product
from tests.model.test_int4_product import check_product, exact_weight, operands
mesh = jax.make_mesh((2, 2), ("data", "model"), axis_types=(AxisType.Auto,) * 2)
rows, outputs = (NamedSharding(mesh, PartitionSpec(name)) for name in ("data", "model"))
x, qvalue, scale = operands((4, 3), 20, 2, 16)
product = jax.jit(int4_product, in_shardings=(rows, outputs, outputs))
y = product(x, qvalue, scale)
check_product(y, x, exact_weight(qvalue, scale))
assert {shard.data.shape for shard in y.addressable_shards} == {(2, 3, 10)}
assert "all-" not in product.lower(x, qvalue, scale).compile().as_text()
"""


def test_rows_and_outputs_may_be_sharded(virtual_devices: Callable[[int], dict[str, str]]) -> None:
    """Over four devices of a CPU, without a word between them."""
    subprocess.run([sys.executable, "-c", SHARDED], cwd=ROOT, env=virtual_devices(4), check=True)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [1, 64, 2048])
def test_the_kernel_lowers_to_triton(rows: int, dtype: jax.typing.DTypeLike) -> None:
    """Its primitives all exist there; whether it compiles and how fast it is, a GPU has to show."""
    x = jax.ShapeDtypeStruct((rows, 2560), dtype)
    qvalue, scale = (
        jax.ShapeDtypeStruct((1000, 20, 128), jnp.int4),
        jax.ShapeDtypeStruct((1000, 20, 1), dtype),
    )
    lowered = jax.jit(pallas).trace(x, qvalue, scale).lower(lowering_platforms=("cuda",)).as_text()
    assert lowered.count("__gpu$xla.gpu.triton") == 1


def test_a_decoding_step_is_a_kernel_a_projection(choose_by: Callable) -> None:
    """For all samples of all tasks, once in the body of the scan over layers."""
    choose_by(lambda *_: pallas)
    params = jax.eval_shape(lambda: quantize(params_and_adapter()[0], "int4:16"))

    def step(params: Params, token: jax.Array) -> jax.Array:
        weights = params | {"layers": [params["layers"]]}
        return decode_step(CONFIG, weights, None, token, jnp.int32(0), [])[0]

    over_samples = jax.vmap(jax.vmap(step, (None, 0)), (None, 0))
    tokens = jax.ShapeDtypeStruct((3, 5), jnp.int32)
    lowered = jax.jit(over_samples).trace(params, tokens).lower(lowering_platforms=("cuda",))
    assert lowered.as_text().count("__gpu$xla.gpu.triton") == 7


def test_the_blocks_fit_the_shape() -> None:
    assert blocks(1, 2560) == (16, 16)
    assert blocks(64, 9728) == (64, 32)
    assert blocks(2048, 9728) == (128, 64)


def test_the_choice() -> None:
    bfloat16, float32 = jnp.bfloat16, jnp.float32
    for rows in (2, 64, 2048):
        assert choose(rows, 2560, 128, bfloat16, "cpu") is dequantised
        assert choose(rows, 2560, 2560, bfloat16, "gpu") is per_channel
    assert choose(64, 2560, 128, bfloat16, "gpu") is pallas
    assert choose(2048, 2560, 128, bfloat16, "gpu") is dequantised
    assert choose(1, 2560, 128, bfloat16, "gpu") is dequantised
    assert choose(48, 2560, 128, float32, "gpu") is groupwise
    assert choose(49, 2560, 128, float32, "gpu") is dequantised
    assert choose(2, 2560, 24, bfloat16, "gpu") is groupwise
