"""What a study's config says, and the rules by which its values are checked."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ml_collections import ConfigDict

from constellation.domains.domain import Domain
from constellation.domains.task import EXAMPLES
from constellation.runtime.errors import UserError

if TYPE_CHECKING:  # programs that only read a finished study need no JAX
    from constellation.memory import Memory
    from constellation.model.config import ModelConfig
    from constellation.model.model import Model

BASE, START = "theta0", "gen_v0"  # the pretrained model, and the generator after the warm start
CRITIC, PRIOR_CRITIC = "critic", "prior_critic"  # the latter is shown no examples
AT_LEAST_ONE = (
    "trajectories", "mesh.data", "mesh.model", "lora.rank", "training.batch_size",
    "training.checkpoint_every", "evaluation.resamples",
)  # fmt: skip
Rule = tuple[str, bool, str]  # field, whether it is as it must be, and what it must be


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


def base_directories(config: ConfigDict) -> list[str]:
    """The generator's base, and that of a critic on another one, if it is asked for; or every peer's."""
    if "peers" in config:
        third = config.peers.scorer
        return [*config.peers.models, *([third] if third not in ("self", "last") else [])]
    return [config.model.dir, *([config.critics.model_dir] if asks(config, "other_base") else [])]


def with_base(config: ConfigDict, model_dir: str) -> ConfigDict:
    """The config with another base."""
    other = ConfigDict(config.to_dict())
    other.model.dir = model_dir
    return other


def memory_of(config: ConfigDict, model: ModelConfig, platform: str) -> Memory:
    """The memory that a model takes, and the budget for it; `platform` is "cpu" or "gpu"."""
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


def memory_beside(config: ConfigDict, models: Sequence[ModelConfig], platform: str) -> Memory:
    """The memory that the first model takes, where the weights of the others leave it room in the budget."""
    from constellation.model.sampling import SamplingConfig

    own, *others = [memory_of(config, model, platform) for model in models]
    weights = sum(other.sampling(1, 0, 1, SamplingConfig(n=1)).weights for other in others)
    return dataclasses.replace(own, budget=max(own.budget - weights, 1.0) if own.budget else 0.0)


def sample_count(config: ConfigDict, bank: str, name: str) -> str:
    """The field that says how many samples a task a model draws of a bank: most where findings are read."""
    if name in {f"v{number}" for number in range(1, config.star.rounds)}:
        return "evaluation.middle_samples"
    return "evaluation.samples" if bank == "hard" else "evaluation.other_samples"


def asks(config: ConfigDict, question: str) -> bool:
    """Whether the study asks a question; its section is read only then."""
    return question in config.get("questions", ())


def value_of(config: ConfigDict, field: str) -> int:
    """The value of a field with dots in its name."""
    for name in field.split("."):
        config = config[name]
    return config


# Rules that sections have in common


def at_least(config: ConfigDict, field: str, least: int, what: str = "") -> Rule:
    """The rule that a field has a least value; `what` says where that comes from, if from another field."""
    return field, value_of(config, field) >= least, f"at least {what or least}"


def rules_of_all(config: ConfigDict) -> list[Rule]:
    """The rules of every study, of one generator or of peers."""
    return [
        ("seed", 0 <= config.seed < 2**32, "in [0, 2^32)"),
        ("tasks.visible", 1 <= config.tasks.visible < EXAMPLES, f"from 1 to {EXAMPLES - 1}"),
        ("memory.budget_gib", config.memory.budget_gib >= 0, "at least 0 (0 for no limit)"),
        *(at_least(config, field, 1) for field in AT_LEAST_ONE),
    ]


def refuse(config: ConfigDict, rules: Iterable[Rule]) -> None:
    """Raises UserError for the first rule that does not hold: it names the field and what it may be."""
    for field, valid, wanted in rules:
        if not valid:
            raise UserError(f"config.{field} = {value_of(config, field)!r} must be {wanted}")


def trajectories_rule(config: ConfigDict, question: str) -> Rule:
    """The rule that a question is asked in one trajectory at least, and in all of them at most."""
    few = config[question].trajectories
    return f"{question}.trajectories", 1 <= few <= config.trajectories, "1 to config.trajectories"


def programs_rule(domain: Domain, question: str) -> Rule:
    """The rule that answers are programs, for a question that can be asked of programs alone."""
    wanted = f"without {question}: answers of {domain.name} are no programs"
    return "questions", domain.provenance is not None, wanted


def banks_rule(config: ConfigDict, domain: Domain, *needed: str) -> Rule:
    """The rule that a study has the `needed` banks, and none that its domain does not have."""
    banks = ", ".join(domain.banks)
    return (
        "tasks.banks",
        set(needed) <= set(config.tasks.banks) <= set(domain.banks),
        f"hard, which the findings are read on, and others of {banks}; with controls withheld",
    )
