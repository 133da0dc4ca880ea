"""The parameters in a model directory of either kind: Hugging Face's, or a ported one."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from constellation.model import port, ported
from constellation.model.config import ModelConfig
from constellation.model.decoder import Params
from constellation.model.mesh import make_mesh, put
from constellation.model.quantize import Leaf, Nibbles, unpack


def load_params(
    directory: str | Path,
    config: ModelConfig,
    dtype: jax.typing.DTypeLike,
    quantization: str = "",
    mesh: Mesh | None = None,
) -> Params:
    """Reads the weights leaf by leaf, each put on its devices as it comes.

    Args:
        config: of the same directory.
        dtype: of the dense weights and of the scales.
        quantization: as for `Quantization.parse`.
        mesh: the devices; one by default.

    Raises:
        UserError: as `port.leaves` and `ported.leaves`; a ported directory of another dtype or quantisation.
    """
    directory, dtype, mesh = Path(directory), jnp.dtype(dtype), mesh or make_mesh()
    if ported.is_ported(directory):
        manifest = ported.read_manifest(directory, dtype.name, quantization)
        return _assemble(ported.leaves(directory, manifest), mesh)
    return _assemble(port.leaves(directory, config, dtype, quantization), mesh)


def check_weights(directory: str | Path, config: ModelConfig, dtype: str, quantization: str = "") -> None:
    """Refuses what `load_params` refuses, without reading the weights.

    Raises:
        UserError: as `load_params`.
    """
    directory = Path(directory)
    if ported.is_ported(directory):
        ported.check(directory, ported.read_manifest(directory, dtype, quantization))
    else:
        port.check_weights(directory, config, quantization)


def _assemble(leaves: Iterable[tuple[str, Leaf]], mesh: Mesh) -> Params:
    params: Params = {"layers": {}}
    for name, leaf in leaves:
        on_device = put(name, leaf, mesh)
        value = unpack(on_device) if isinstance(leaf, Nibbles) else on_device
        if name.startswith("layers/"):
            params["layers"][name.removeprefix("layers/")] = value
        else:
            params[name] = value
    return params
