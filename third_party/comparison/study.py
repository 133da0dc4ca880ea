"""A self-training round beside transformers and peft: how often either side's generators solve tuning tasks.

From one base and one gen_v0, which we train, either side does everything else by itself, and several times
with draws of its own: it samples the base and gen_v0 on a tuning bank, draws a STaR round's data from gen_v0,
trains the round and samples that. The rows of the table are simultaneous intervals of the differences.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict
from numpy.typing import NDArray

from constellation.conductor import Conductor, Stage
from constellation.domains.domain import Domain, load_domain
from constellation.evaluation.pass_at_k import pass_curve
from constellation.experiments.check import check
from constellation.experiments.config import BASE, START
from constellation.experiments.files import SAMPLES
from constellation.experiments.star import round_tasks, warm_start
from constellation.experiments.study import Study
from constellation.model.model import check_model
from constellation.model.peft_format import save_peft
from constellation.model.sampling import SamplingConfig
from constellation.model.weights import is_ported
from constellation.runtime import keys
from constellation.runtime.errors import UserError
from constellation.runtime.files import write_atomically
from constellation.runtime.keys import Address
from constellation.samples import SampleSet
from constellation.selftraining.finetune import load_adapter
from constellation.selftraining.star import kept_programs, star_examples
from third_party.comparison.agreement import POWER, Agreement, agreement
from third_party.comparison.sides import PEFT, Ours, Side, Theirs
from third_party.comparison.table import HEAD, Row, line

BANK = "tuning_hard"  # the evaluation banks are for the findings
ROUND = "v1"
MODELS = (BASE, START, ROUND)
PURPOSE = "compare_pytorch"  # of all draws but gen_v0's training
FAMILY_LEVEL = 0.95  # at which the intervals of all rows hold together, by Bonferroni
RESULTS = "pytorch.jsonl"


class Sizes(NamedTuple):
    """How much is sampled to compare; what a round is, the config says."""

    replicates: int = 4  # of everything on either side, at least 2
    tasks: int = 100  # of the bank
    samples: int = 64  # of each task, in each replicate
    ks: tuple[int, ...] = (1, 8, 64)  # of pass@k; the change by the round is compared at all but the first


def run(
    config: ConfigDict,
    workdir: str,
    sizes: Sizes,
    domain: Domain | None = None,
    sides: tuple[type[Side], type[Side]] = (Ours, Theirs),
) -> bool:
    """Runs, or continues, both sides, prints the table, and returns whether every row passed.

    The rows are also written to workdir/RESULTS.

    Args:
        domain: instead of the one that the config names.
        sides: what is compared, ours first.

    Raises:
        UserError: a config value that is not allowed, a model that cannot be loaded, or that transformers
            cannot load, or a workdir of another study.
    """
    check(config)
    begun = time.perf_counter()
    model = config.model
    if is_ported(Path(model.dir)):
        raise UserError(
            f"transformers cannot read {model.dir}: give --config.model.dir the directory it is of"
        )
    config = ConfigDict(config.to_dict())
    config.tasks.bank_size = sizes.tasks
    with Conductor(workdir) as conductor:
        hashes = [check_model(model.dir, model.quantization, model.dtype)]
        stages = Study(config, conductor, domain or load_domain(config.domain), hashes)
        ours, theirs = (_Protocol(stages, side(stages), sizes).passes() for side in sides)
    compared = compare(ours, theirs, sizes.ks, config.evaluation.resamples, config.evaluation.seed)
    print(HEAD)
    table = {name: row(name, result) for name, result in compared.items()}
    for entry in table.values():
        print(line(entry))
    lines = [
        json.dumps({"row": name, **result._asdict(), "passed": table[name].passed})
        for name, result in compared.items()
    ]
    write_atomically(Path(workdir) / RESULTS, lambda file: file.write("\n".join([*lines, ""]).encode()))
    print(
        f"{sizes.replicates} replicates of {sizes.tasks} tasks of {BANK} with {sizes.samples} samples; the "
        f"intervals hold together at {FAMILY_LEVEL:.0%}; {time.perf_counter() - begun:.0f} seconds"
    )
    return all(entry.passed for entry in table.values())


Passes = dict[str, NDArray[np.float64]]  # model -> pass@k of replicates, tasks and ks: [R, T, K]


class _Protocol:
    """What one side does, as stages."""

    def __init__(self, stages: Study, side: Side, sizes: Sizes):
        self.stages, self.side, self.sizes = stages, side, sizes
        self.config = stages.config

    def passes(self) -> Passes:
        """pass@k of every model, of each replicate and task."""
        bank, drawn = self.stages.bank(BANK), range(self.sizes.replicates)

        def curve(stage: Stage) -> NDArray[np.float64]:
            samples = SampleSet.load(stage.path / SAMPLES)
            return pass_curve(samples.per_sample(samples.right), self.sizes.ks)

        def curves(name: str, generator: Callable[[int], Stage | None]) -> NDArray[np.float64]:
            n = self.sizes.samples
            return np.stack([curve(self.samples(name, bank, generator(r), n, r)) for r in drawn])

        return {
            BASE: curves(BASE, lambda _: None),
            START: curves(START, lambda _: self.start()),
            ROUND: curves(ROUND, self.round),
        }

    def start(self) -> Stage:
        """gen_v0, which we train for both sides, in peft's format."""
        trained = warm_start(self.stages)

        def export(path: Path) -> None:
            model = self.stages.base.model
            save_peft(path / PEFT, model.config, load_adapter(trained.path)[0], str(model.dir))

        return self.stages.conductor.stage(
            f"pytorch_{START}", fields={}, inputs=[trained], version=1, run=export
        )

    def samples(self, name: str, tasks: Stage, generator: Stage | None, n: int, replicate: int) -> Stage:
        """A replicate's judged samples; `name` says whose and what for."""
        config, inputs = self.config, [tasks, *([generator] if generator else [])]
        sampling = SamplingConfig(n=n, **config.sampling)

        def run(path: Path) -> None:
            adapter = generator.path / PEFT if generator else None
            drawn = self.side.draw(
                adapter, self.stages.tasks_of(tasks)[0], sampling, self._address(name, replicate)
            )
            drawn.save(path / SAMPLES)

        fields = self._fields() | {"samples": n, "sampling": config.sampling}
        return self._stage(f"samples_{name}", replicate, fields, inputs, run)

    def round(self, replicate: int) -> Stage:
        """A STaR round on the side's own data, from what the config says."""
        config, star = self.config, self.config.star
        start = None if star.restart == BASE else self.start()
        tasks = round_tasks(self.stages, 1, star.max_atoms)
        samples = self.samples("star", tasks, self.start(), star.samples, replicate)

        def train(path: Path) -> None:
            drawn = SampleSet.load(samples.path / SAMPLES)
            pool = star_examples(
                self.stages.base.model,
                self.stages.domain,
                self.stages.tasks_of(tasks)[0],
                self.stages.split,
                kept_programs(self.stages.domain, drawn, star.keep),
            )
            updates = -(-star.passes * star.tasks // config.training.batch_size)
            self.side.train(
                start.path / PEFT if start else None, pool, updates, self._address(ROUND, replicate), path
            )

        fields = self._fields() | {"lora": config.lora, "training": config.training, "star": star}
        inputs = [tasks, samples, *([start] if start else [])]
        return self._stage(ROUND, replicate, fields, inputs, train)

    def _stage(
        self,
        name: str,
        replicate: int,
        fields: dict[str, Any],
        inputs: list[Stage],
        run: Callable[[Path], None],
    ) -> Stage:
        name = f"pytorch_{self.side.name}_{name}_{replicate}"
        return self.stages.conductor.stage(name, fields=fields, inputs=inputs, version=1, run=run)

    def _fields(self) -> dict[str, Any]:
        config = self.config
        return {
            "seed": config.seed,
            "model": self.stages.base.fields(),
            "domain": self.stages.domain.version,
            "prompt": config.prompt,
            "tasks": {"visible": config.tasks.visible, "split_seed": config.tasks.split_seed},
        }

    def _address(self, name: str, replicate: int) -> Address:
        return Address(self.config.seed, PURPOSE, f"{self.side.name} {name}", replicate)


def compare(
    ours: Passes, theirs: Passes, ks: tuple[int, ...], resamples: int, seed: int
) -> dict[str, Agreement]:
    """The rows: pass@k of every model, then D(k) = pass@k of the round - pass@k of gen_v0.

    Args:
        ours, theirs: [R, T, K] of each model.
        ks: the K values of k.
        resamples, seed: of the bootstrap.
    """

    def quantities(passes: Passes) -> Iterator[tuple[str, NDArray[np.float64]]]:
        for model in MODELS:
            for index, k in enumerate(ks):
                yield f"{model} pass@{k}", passes[model][..., index]
        for index, k in enumerate(ks[1:], 1):
            yield f"D({k}) of {ROUND}", (passes[ROUND] - passes[START])[..., index]

    pairs = list(zip(quantities(ours), quantities(theirs), strict=True))
    level = 1 - (1 - FAMILY_LEVEL) / len(pairs)
    return {
        name: agreement(one, other, level, resamples, keys.host_rng(seed, PURPOSE, name))
        for (name, one), (_, other) in pairs
    }


def row(name: str, result: Agreement) -> Row:
    """A line of the table, in percentage points; passes iff the interval contains 0 and is one."""
    measured = (
        f"|ours {_points(result.ours):.1f} % - torch's {_points(result.theirs):.1f} %|, in points; "
        f"{_points(result.detectable):.1f} would be seen {POWER:.0%} of the time"
    )
    # Where nothing varies, as where no task is ever solved, nothing was compared.
    limit = _points(result.half_width) or math.nan
    return Row(name, measured, abs(_points(result.difference)), limit)


def _points(share: float) -> float:
    return round(100 * share, 3)  # three decimals are printed
