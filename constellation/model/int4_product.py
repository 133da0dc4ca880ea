"""Ways of multiplying by int4 weights, and which is taken for which shape.

A weight [out, in] is `qvalue` [out, in / group, group] int4 and `scale` [out, in / group, 1] floating point:
`group` inputs of an output share a scale. Every way takes x [..., in] and returns [..., out] in x's dtype.
Measured by `python -m launch.benchmark --part=int4_product`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from constellation.model.mesh import is_divided

Way: TypeAlias = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]  # (x, qvalue, scale) -> y

SMALLEST_TILE, LARGEST_TILE = 16, 128  # of Triton's dot: below 16 it has no tensor core instruction
PROGRAMS = 256  # that a kernel has at least, where it can: about two for each multiprocessor of a large GPU


@jax.custom_vjp
def int4_product(x: jax.Array, qvalue: jax.Array, scale: jax.Array) -> jax.Array:
    """x W^T by the way that `choose` names; under vmap over x, for the rows of all samples together.

    The weights are frozen: their gradient is zero. That of x goes through one dequantised weight, made again
    in the backward pass, so that a scan over layers never keeps two.
    """
    return _over_rows(x, qvalue, scale)


_Weight: TypeAlias = tuple[jax.Array, jax.Array]  # (qvalue, scale)


def _forward(x: jax.Array, qvalue: jax.Array, scale: jax.Array) -> tuple[jax.Array, _Weight]:
    return int4_product(x, qvalue, scale), (qvalue, scale)


def _backward(weight: _Weight, dy: jax.Array) -> tuple[jax.Array, None, None]:
    return jnp.einsum("...o,oi->...i", dy, dequantise(*weight, dy.dtype)), None, None


int4_product.defvjp(_forward, _backward)


@jax.custom_batching.custom_vmap
def _over_rows(x: jax.Array, qvalue: jax.Array, scale: jax.Array) -> jax.Array:
    in_features, group = x.shape[-1], qvalue.shape[-1]
    platform = "divided" if is_divided() else jax.default_backend()
    way = choose(math.prod(x.shape[:-1]), in_features, group, x.dtype, platform)
    return way(x, qvalue, scale)


@_over_rows.def_vmap
def _over_more_rows(
    axis_size: int, batched: list[bool], x: jax.Array, qvalue: jax.Array, scale: jax.Array
) -> tuple[jax.Array, bool]:
    """What is mapped becomes rows: one product for all of them, chosen by their number."""
    if batched == [True, False, False]:
        return _over_rows(x, qvalue, scale), True
    axes = [0 if mapped else None for mapped in batched]
    return jax.vmap(dequantised, axes)(x, qvalue, scale), True


def choose(rows: int, in_features: int, group: int, dtype: jax.typing.DTypeLike, platform: str) -> Way:
    """The way for x [rows, in] of `dtype` and a weight [out, in], on "cpu", "gpu" or "tpu", or "divided".

    Of weights that are divided among devices XLA can only partition what it compiles itself: no kernel.

    CPU: measured. GPU: not measured, but reasoned from what XLA makes of a scan over layers when it compiles
    for an H100; `python -m launch.benchmark --part=int4_product` measures it. Bytes moved for each weight, in
    bfloat16: `dequantised` 4.5, of which 0.5 packed and 2 dense, written and read again, but 0.5 in all for
    one row, where XLA fuses everything into a reduction; the kernel 1.5, as a layer's slice of the stack is
    copied first; `groupwise` 1.5 and 8 * rows / group of partial sums. Of operations cuBLAS may do twice
    as many a second as the kernel: at 165 TFLOP/s for each TB/s, about what an RTX 4090, an A100 and an H200
    have, the kernel loses above some 370 rows. `per_channel` dequantises inside XLA's product and has no
    partial sums.
    """
    # On a CPU `groupwise` takes longer at almost every shape, often several times as long.
    if platform != "gpu" or rows == 1:
        return dequantised
    if group == in_features:
        return per_channel
    # In float32, without tensor cores, the kernel's tiles do not fit the registers.
    if rows <= 256 and tile_of(group) >= SMALLEST_TILE and jnp.dtype(dtype).itemsize == 2:
        return pallas
    return groupwise if 8 * rows <= 3 * group else dequantised  # 1.5 + 8 * rows / group <= 4.5


def dequantise(qvalue: jax.Array, scale: jax.Array, dtype: jax.typing.DTypeLike) -> jax.Array:
    """The weight [..., out, in] in `dtype`, of qvalue [..., out, in / group, group] and its scale."""
    groups = qvalue.astype(dtype) * scale.astype(dtype)  # [..., out, in / group, group]
    return groups.reshape(*groups.shape[:-2], -1)


def dequantised(x: jax.Array, qvalue: jax.Array, scale: jax.Array) -> jax.Array:
    """Dequantises the weight to x's dtype, then multiplies."""
    return jnp.einsum("...i,oi->...o", x, dequantise(qvalue, scale, x.dtype))


def groupwise(x: jax.Array, qvalue: jax.Array, scale: jax.Array) -> jax.Array:
    """A product for each group; the groups' results are scaled, then added up, in float32."""
    _, groups, group = qvalue.shape
    x_groups = x.reshape(*x.shape[:-1], groups, group)
    partial = jnp.einsum(
        "...ng,ong->n...o", x_groups, qvalue.astype(x.dtype), preferred_element_type=jnp.float32
    )
    return jnp.einsum("n...o,on->...o", partial, scale[..., 0].astype(jnp.float32)).astype(x.dtype)


def per_channel(x: jax.Array, qvalue: jax.Array, scale: jax.Array) -> jax.Array:
    """Multiplies by the integers and scales the result: for one scale an output, group == in."""
    if qvalue.shape[1] != 1:
        raise ValueError(f"per_channel has one group an output, not {qvalue.shape[1]}")
    y = jnp.einsum("...i,oi->...o", x, qvalue[:, 0].astype(x.dtype), preferred_element_type=jnp.float32)
    return (y * scale[:, 0, 0].astype(jnp.float32)).astype(x.dtype)


def pallas(x: jax.Array, qvalue: jax.Array, scale: jax.Array, interpret: bool = False) -> jax.Array:
    """One Triton kernel that reads the weight once, packed, and dequantises it in registers.

    A power of two from 16 on has to divide the group. `interpret` runs it as plain XLA operations, anywhere.
    """
    out_features, _, group = qvalue.shape
    tile = tile_of(group)
    if tile < SMALLEST_TILE:
        raise ValueError(f"pallas has groups divided by {SMALLEST_TILE}, not of {group}")
    lead, in_features = x.shape[:-1], x.shape[-1]
    rows, tiles = math.prod(lead), in_features // tile
    block_rows, block_out = blocks(rows, out_features)
    kernel = functools.partial(_kernel, rows=rows, out_features=out_features, tiles_per_group=group // tile)
    y = pl.pallas_call(
        kernel,
        out_shape=jax.ShapeDtypeStruct((rows, out_features), x.dtype),
        # Programs that share weights come one after the other, so that all but the first find them in cache.
        grid=(pl.cdiv(rows, block_rows), pl.cdiv(out_features, block_out)),
        in_specs=[
            pl.BlockSpec((block_rows, tiles, tile), lambda i, j: (i, 0, 0)),
            pl.BlockSpec((block_out, tiles, tile), lambda i, j: (j, 0, 0)),
            pl.BlockSpec((block_out, in_features // group), lambda i, j: (j, 0)),
        ],
        out_specs=pl.BlockSpec((block_rows, block_out), lambda i, j: (i, j)),
        compiler_params=triton.CompilerParams(num_warps=4, num_stages=3),
        interpret=interpret,
        name="int4_product",
    )(x.reshape(rows, tiles, tile), qvalue.reshape(out_features, tiles, tile), scale[..., 0])
    return y.reshape(*lead, out_features)


def tile_of(group: int) -> int:
    """How many inputs the kernel multiplies at a time: a power of two that divides the group, at most 128."""
    return min(group & -group, LARGEST_TILE)


def blocks(rows: int, out_features: int) -> tuple[int, int]:
    """(rows, outputs) of a program: the weight is read once for so many rows, x once for so many outputs.

    Few rows leave the kernel bound by memory: outputs are then shared out among more programs, until there
    are PROGRAMS of them to read at the same time.
    """
    block_rows = min(max(pl.next_power_of_2(rows), SMALLEST_TILE), 128)
    row_blocks = pl.cdiv(rows, block_rows)
    block_out = 64  # of 128 x 128 sums some would spill from the registers of 4 warps
    while block_out > SMALLEST_TILE and row_blocks * pl.cdiv(out_features, block_out) < PROGRAMS:
        block_out //= 2
    return block_rows, block_out


def _kernel(
    x_ref: jax.Ref,
    q_ref: jax.Ref,
    scale_ref: jax.Ref,
    y_ref: jax.Ref,
    *,
    rows: int,
    out_features: int,
    tiles_per_group: int,
) -> None:
    """A block of y. x [block_rows, tiles, tile], q [block_out, tiles, tile], scale [block_out, groups]."""
    (block_rows, tiles, _), block_out = x_ref.shape, q_ref.shape[0]
    # The last block of either axis may reach beyond the array; Triton bounds nothing by itself.
    row = (pl.program_id(0) * block_rows + jnp.arange(block_rows) < rows)[:, None]
    out = pl.program_id(1) * block_out + jnp.arange(block_out) < out_features
    # Triton's default for float32 is TF32, of 10 bits.
    precision = jax.lax.Precision.HIGHEST if x_ref.dtype == jnp.float32 else None

    def add_tile(index: jax.Array, total: jax.Array) -> jax.Array:
        x = triton.load(x_ref.at[:, index], mask=row, other=0.0)  # [block_rows, tile]
        q = triton.load(q_ref.at[:, index], mask=out[:, None], other=0)  # [block_out, tile]
        group = jax.lax.div(index, tiles_per_group)
        scale = triton.load(scale_ref.at[:, group], mask=out, other=0.0)  # [block_out]
        sums = (((1,), (1,)), ((), ()))  # over the inputs
        y = jax.lax.dot_general(x, q.astype(x.dtype), sums, precision, preferred_element_type=jnp.float32)
        return total + y * scale.astype(jnp.float32)

    total = jax.lax.fori_loop(0, tiles, add_tile, jnp.zeros((block_rows, block_out), jnp.float32))
    triton.store(y_ref.at[...], total.astype(y_ref.dtype), mask=row & out)
