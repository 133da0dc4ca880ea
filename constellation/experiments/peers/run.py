"""Runs, or continues, a whole study of peers: checked before anything is touched, then to its report."""

from __future__ import annotations

from pathlib import Path

import jax
from ml_collections import ConfigDict

from constellation.conductor import Conductor
from constellation.critic import answer_ids
from constellation.domains.domain import load_domain
from constellation.experiments.compute import Compute
from constellation.experiments.config import base_directories, load_base
from constellation.experiments.peers.check import check_peers
from constellation.experiments.peers.plan import PeersPlan
from constellation.experiments.peers.report import report
from constellation.experiments.study import Study
from constellation.model.mesh import make_mesh
from constellation.model.model import check_model
from constellation.runtime.distributed import align, own_workdir
from constellation.runtime.errors import UserError
from constellation.runtime.progress import Schedule


def run_peers(config: ConfigDict, workdir: str, compute: Compute | None = None) -> Path:
    """Runs, or continues, the whole study; returns the path of the report.

    Raises:
        UserError: a config value that is not allowed, a model that cannot be loaded (both found before the
            workdir is touched), or a workdir of another study.
    """
    check_peers(config)
    mesh, domain = make_mesh(config.mesh.data, config.mesh.model), load_domain(config.domain)
    settings = config.model.quantization, config.model.dtype, mesh
    hashes = [check_model(directory, *settings) for directory in base_directories(config)]
    if len(hashes) > len(config.peers.models) and hashes[-1] in hashes[:-1]:
        raise UserError(
            f"config.peers.scorer = {config.peers.scorer!r} is the model of a peer: give another, or self"
        )
    for directory in config.peers.models:
        answer_ids(load_base(config, domain, directory, weights=False))
    schedule = Schedule(PeersPlan(config, jax.default_backend()).schedule())
    own = own_workdir(Path(workdir))
    align(own)
    with Conductor(own, schedule=schedule) as conductor:
        return report(Study(config, conductor, domain, hashes, compute))
