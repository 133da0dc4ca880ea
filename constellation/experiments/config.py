"""What a study's config may say, checked before anything runs: not found out in the middle of a long run."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ml_collections import ConfigDict

from constellation.domains.domain import Domain, load_domain
from constellation.domains.task import EXAMPLES
from constellation.runtime.errors import UserError

if TYPE_CHECKING:  # programs that only read a finished study need no JAX
    from constellation.memory import Memory
    from constellation.model.config import ModelConfig
    from constellation.model.model import Model

BASE, START = "theta0", "gen_v0"  # the pretrained model, and the generator after the warm start
CRITIC, PRIOR_CRITIC = "critic", "prior_critic"  # the latter is shown no examples
RESTARTS = (BASE, START, "continue")
AT_LEAST_ONE = (
    "trajectories", "mesh.data", "mesh.model", "tasks.bank_size", "lora.rank", "training.batch_size",
    "training.checkpoint_every",
    "warm_start.tasks", "warm_start.max_atoms", "warm_start.passes",
    "star.tasks", "star.samples", "star.max_atoms", "star.keep", "star.passes",
    "critic.tasks", "critic.samples", "critic.max_atoms", "critic.passes", "evaluation.resamples",
    "evaluation.reach_at",
)  # fmt: skip


def load_base(
    config: ConfigDict, domain: Domain, directory: str | None = None, weights: bool = True
) -> Model:
    """A frozen base, by default the generator's, with the conversation's settings.

    Args:
        weights: as for `load_model`.

    Raises:
        UserError: as `load_model`.
    """
    from constellation.model.mesh import make_mesh
    from constellation.model.model import load_model

    model, prompt = config.model, config.prompt
    system = domain.system if prompt.description else ""
    mesh = make_mesh(config.mesh.data, config.mesh.model)
    where = directory or model.dir
    return load_model(where, model.quantization, model.dtype, system, prompt.thinking, mesh, weights)


def with_base(config: ConfigDict, model_dir: str) -> ConfigDict:
    """The config with another base."""
    other = ConfigDict(config.to_dict())
    other.model.dir = model_dir
    return other


def memory_of(config: ConfigDict, model: ModelConfig, platform: str) -> Memory:
    """What the config says of memory; `platform` is "cpu" or "gpu"."""
    from constellation.memory import GIB, Memory

    return Memory(
        config=model,
        quantization=config.model.quantization,
        dtype=config.model.dtype,
        rank=config.lora.rank,
        platform=platform,
        trajectories=config.trajectories,
        devices=config.mesh.model,
        budget=config.memory.budget_gib * GIB,
    )


def sample_count(config: ConfigDict, bank: str, name: str) -> str:
    """The field of how many samples a task a model answers a bank with: most where the findings are read."""
    if name in {f"v{number}" for number in range(1, config.star.rounds)}:
        return "evaluation.middle_samples"
    return "evaluation.samples" if bank == "hard" else "evaluation.other_samples"


def check(config: ConfigDict) -> None:
    """Refuses a value that a stage could not work with.

    Raises:
        UserError: names the first such field and what it may be.
    """
    from constellation.model.sampling import SamplingConfig

    domain = load_domain(config.domain)
    most = max(domain.difficulties)
    star, evaluation, controls = config.star, config.evaluation, config.controls
    temperatures, variants = config.temperatures, config.variants
    pools = [evaluation.samples, evaluation.other_samples, evaluation.middle_samples, controls.samples]
    rules = [
        ("domain", domain.judge is not None, "a domain with a judge: STaR keeps what a judge finds right"),
        ("seed", 0 <= config.seed < 2**32, "in [0, 2^32)"),
        ("tasks.visible", 1 <= config.tasks.visible < EXAMPLES, f"from 1 to {EXAMPLES - 1}"),
        (
            "tasks.banks",
            {"hard", *(["withheld"] if controls.trajectories else [])}
            <= set(config.tasks.banks)
            <= set(domain.banks),
            f"hard, which the findings are read on, and others of {', '.join(domain.banks)}; with controls "
            "withheld",
        ),
        ("star.learning_rate", star.learning_rate > 0, "above 0"),
        ("training.learning_rate", config.training.learning_rate > 0, "above 0"),
        ("memory.budget_gib", config.memory.budget_gib >= 0, "at least 0 (0 for no limit)"),
        ("star.restart", star.restart in RESTARTS, f"one of {', '.join(RESTARTS)}"),
        ("star.rounds", star.rounds >= 0, "at least 0"),
        ("star.arm_max_atoms", star.arm_max_atoms >= 0, "at least 0 (0 for no arm)"),
        ("evaluation.small_k", 1 <= evaluation.small_k < evaluation.large_k, "at least 1 and below large_k"),
        (
            "evaluation.samples",
            evaluation.samples >= 2 * evaluation.large_k,
            "at least twice evaluation.large_k",
        ),
        *(
            (field, value_of(config, field) >= 2 * evaluation.small_k, "at least twice evaluation.small_k")
            for field in ("evaluation.other_samples", "evaluation.middle_samples")
        ),
        (
            "evaluation.split_seeds",
            config.tasks.split_seed in evaluation.split_seeds
            and len(set(evaluation.split_seeds)) == len(evaluation.split_seeds),
            f"different numbers, tasks.split_seed ({config.tasks.split_seed}) among them",
        ),
        (
            "evaluation.selection_samples",
            evaluation.selection_samples >= evaluation.small_k,
            "at least evaluation.small_k",
        ),
        (
            "evaluation.tuning_samples",
            evaluation.tuning_samples >= evaluation.small_k,
            "at least evaluation.small_k",
        ),
        (
            "controls.trajectories",
            0 <= controls.trajectories <= config.trajectories and (star.rounds or not controls.trajectories),
            "from 0 (for no controls) to config.trajectories, and 0 where star.rounds is",
        ),
        (
            "controls.samples",
            controls.samples >= 2 * evaluation.large_k,
            "at least twice evaluation.large_k",
        ),
        (
            "evaluation.null_samples",
            evaluation.null_samples == 0
            or (controls.trajectories and evaluation.null_samples >= evaluation.samples),
            "0, or at least evaluation.samples with controls.trajectories above 0",
        ),
        (
            "variants.trajectories",
            0 <= variants.trajectories <= config.trajectories,
            "from 0 (for no variants) to config.trajectories",
        ),
        (
            "variants.visible",
            all(1 <= shown < EXAMPLES for shown in variants.visible)
            and len(set(variants.visible)) == len(variants.visible),
            f"different numbers from 1 to {EXAMPLES - 1}",
        ),
        ("variants.samples", variants.samples >= evaluation.small_k, "at least evaluation.small_k"),
        (
            "critic.model_dir",
            not config.critic.model_dir or variants.trajectories > 0,
            "empty where variants.trajectories is 0",
        ),
        (
            "evaluation.reach_samples",
            0 <= evaluation.reach_samples <= min(pools),
            f"from 0 (no reach) to {min(pools)}, the fewest samples that a model answers a task with",
        ),
        *(
            (field, value_of(config, field) <= most, f"at most {most}, the most that {config.domain} draws")
            for field in ("warm_start.max_atoms", "star.max_atoms", "star.arm_max_atoms", "critic.max_atoms")
        ),
        ("evaluation.reach_budgets", min(evaluation.reach_budgets, default=0) >= 1, "one or more, each >= 1"),
        *((field, value_of(config, field) >= 1, "at least 1") for field in AT_LEAST_ONE),
    ]
    if temperatures.trajectories:
        values, further = list(temperatures.compared), list(temperatures.matching)
        rules += [
            (
                "temperatures.compared",
                len(values) == 3 and increasing(values) and config.sampling.temperature in values[:2],
                "three temperatures above 0, increasing, sampling.temperature the first or second",
            ),
            (
                "temperatures.matching",
                increasing([*further, values[0]]),
                "temperatures above 0, increasing, below those of temperatures.compared",
            ),
            (
                "temperatures.samples",
                2 * evaluation.large_k <= temperatures.samples <= evaluation.samples,
                "from twice evaluation.large_k to evaluation.samples",
            ),
            ("temperatures.tuning_samples", temperatures.tuning_samples >= 2, "at least 2"),
            (
                "temperatures.trajectories",
                0 < temperatures.trajectories <= config.trajectories and star.rounds,
                "from 0 (for one temperature) to config.trajectories, and 0 where star.rounds is",
            ),
        ]
    if domain.provenance is None:
        rules += [
            ("evaluation.reach_samples", not evaluation.reach_samples, "0: answers are no programs"),
            ("critic.selectors", not config.critic.selectors, "False: answers are no programs"),
        ]
    if evaluation.reach_samples:  # whose check is that of right samples there are as many as m says
        plain = {"temperature": 1.0, "top_k": 0, "top_p": 1.0}
        rules += [
            (f"sampling.{name}", config.sampling[name] == value, f"{value} for evaluation.reach_samples")
            for name, value in plain.items()
        ]
    for field, valid, wanted in rules:
        if not valid:
            raise UserError(f"config.{field} = {value_of(config, field)!r} must be {wanted}")
    SamplingConfig(n=evaluation.samples, **config.sampling)


def increasing(temperatures: Sequence[float]) -> bool:
    """Whether they are above 0 and each above the one before."""
    return all(before < after for before, after in itertools.pairwise([0, *temperatures]))


def value_of(config: ConfigDict, field: str) -> int:
    """The value of a field with dots in its name."""
    for name in field.split("."):
        config = config[name]
    return config
