"""Runs, or continues, a whole study: checked and planned before anything is touched, then to its report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import jax
from ml_collections import ConfigDict

from constellation.conductor import Conductor, read_record
from constellation.critic import answer_ids
from constellation.domains.domain import load_domain
from constellation.experiments import config as configs
from constellation.experiments.check import check
from constellation.experiments.compute import Compute
from constellation.experiments.plan import check_fits, plan
from constellation.experiments.report import report
from constellation.experiments.study import Study
from constellation.model.mesh import make_mesh
from constellation.model.model import check_model
from constellation.runtime.distributed import align, own_workdir
from constellation.runtime.errors import UserError
from constellation.runtime.progress import Schedule


def run(
    config: ConfigDict, workdir: str, siblings: Sequence[Path] = (), compute: Compute | None = None
) -> Path:
    """Runs, or continues, the whole study; returns the path of the report.

    Args:
        siblings: as for `Conductor`.
        compute: what stages compute with, if not the library's own functions.

    Raises:
        UserError: a config value that is not allowed, a model that cannot be loaded (both found before the
            workdir is touched), or a workdir of another study.
    """
    check(config)
    _check_extends(config, workdir)
    mesh, domain = make_mesh(config.mesh.data, config.mesh.model), load_domain(config.domain)
    planned = plan(config, jax.default_backend())
    bases = configs.base_directories(config)
    for other in bases[1:]:
        check_fits(configs.with_base(config, other), jax.default_backend())
    hashes = [check_model(base, config.model.quantization, config.model.dtype, mesh) for base in bases]
    for base in bases:
        answer_ids(configs.load_base(config, domain, base, weights=False))
    own = own_workdir(Path(workdir))
    align(own)
    schedule = Schedule(planned.schedule(config, jax.default_backend()))
    with Conductor(own, siblings, schedule) as conductor:
        return report(Study(config, conductor, domain, hashes, compute))


def _check_extends(config: ConfigDict, workdir: str) -> None:
    """Refuses more rounds where the last one's samples are not as many as a middle one's are to be.

    The stages that read them would refuse it, too, but only when the further rounds have been trained.
    """
    for number in range(1, config.star.rounds):
        path = Path(workdir) / "stages" / f"draws_samples_v{number}_hard_{config.tasks.split_seed}"
        if not (path / "stage.json").is_file():
            continue
        held = read_record(path)["recipe"]["fields"]["evaluation.samples"]
        field = configs.sample_count(config, "hard", f"v{number}")
        if held != configs.value_of(config, field):
            raise UserError(
                f"{workdir} holds {held} samples a task of v{number}, and config.{field} asks for "
                f"{configs.value_of(config, field)}: set it to {held}, or give another --workdir"
            )
