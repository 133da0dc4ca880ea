"""What a study's config may say, checked before anything runs: not found out in the middle of a long run."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ml_collections import ConfigDict

from constellation.domains.domain import Domain, load_domain
from constellation.domains.task import EXAMPLES
from constellation.runtime.errors import UserError, unknown

if TYPE_CHECKING:  # programs that only read a finished study need no JAX
    from constellation.memory import Memory
    from constellation.model.config import ModelConfig
    from constellation.model.model import Model

BASE, START = "theta0", "gen_v0"  # the pretrained model, and the generator after the warm start
CRITIC, PRIOR_CRITIC = "critic", "prior_critic"  # the latter is shown no examples
RESTARTS = (BASE, START, "continue")
QUESTIONS = ("arm", "selectors", "controls", "null", "reach", "temperature", "critics", "other_base")
NEEDS = {"null": "controls", "other_base": "critics"}  # whose trajectories they have
Rule = tuple[str, bool, str]  # field, whether it is as it must be, and what it must be
AT_LEAST_ONE = (
    "trajectories", "mesh.data", "mesh.model", "tasks.bank_size", "lora.rank", "training.batch_size",
    "training.checkpoint_every",
    "warm_start.tasks", "warm_start.max_atoms", "warm_start.passes",
    "star.tasks", "star.samples", "star.max_atoms", "star.keep", "star.passes",
    "critic.tasks", "critic.samples", "critic.max_atoms", "critic.passes", "evaluation.resamples",
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


def base_directories(config: ConfigDict) -> list[str]:
    """The generator's base, and that of a critic on another one, if it is asked for."""
    return [config.model.dir, *([config.critics.model_dir] if asks(config, "other_base") else [])]


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


def asks(config: ConfigDict, question: str) -> bool:
    """Whether the study asks a question; its section is read only then."""
    return question in config.questions


def check(config: ConfigDict) -> None:
    """Refuses a value that a stage could not work with.

    Raises:
        UserError: names the first such field and what it may be.
    """
    from constellation.model.sampling import SamplingConfig

    for question in config.questions:
        if question not in QUESTIONS:
            raise unknown("question in config.questions:", question, QUESTIONS)
    for question, needed in NEEDS.items():
        if asks(config, question) and not asks(config, needed):
            raise UserError(f"config.questions has {question!r}, which needs {needed!r}: add it")
    domain = load_domain(config.domain)
    for field, valid, wanted in [*_rules(config, domain), *_question_rules(config, domain)]:
        if not valid:
            raise UserError(f"config.{field} = {value_of(config, field)!r} must be {wanted}")
    SamplingConfig(n=config.evaluation.samples, **config.sampling)


def _rules(config: ConfigDict, domain: Domain) -> list[Rule]:
    """What holds whatever is asked."""
    star, evaluation, selection = config.star, config.evaluation, config.selection
    most, banks = max(domain.difficulties), ", ".join(domain.banks)
    needed = {"hard", *(["withheld"] if asks(config, "controls") else [])}
    return [
        ("domain", domain.judge is not None, "a domain with a judge: STaR keeps what a judge finds right"),
        ("seed", 0 <= config.seed < 2**32, "in [0, 2^32)"),
        ("tasks.visible", 1 <= config.tasks.visible < EXAMPLES, f"from 1 to {EXAMPLES - 1}"),
        (
            "tasks.banks",
            needed <= set(config.tasks.banks) <= set(domain.banks),
            f"hard, which the findings are read on, and others of {banks}; with controls withheld",
        ),
        ("star.learning_rate", star.learning_rate > 0, "above 0"),
        ("training.learning_rate", config.training.learning_rate > 0, "above 0"),
        ("memory.budget_gib", config.memory.budget_gib >= 0, "at least 0 (0 for no limit)"),
        ("star.restart", star.restart in RESTARTS, f"one of {', '.join(RESTARTS)}"),
        ("star.rounds", star.rounds >= 0, "at least 0"),
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
        ("selection.samples", selection.samples >= evaluation.small_k, "at least evaluation.small_k"),
        (
            "selection.tuning_samples",
            selection.tuning_samples >= evaluation.small_k,
            "at least evaluation.small_k",
        ),
        *(
            (field, value_of(config, field) <= most, f"at most {most}, the most that {config.domain} draws")
            for field in ("warm_start.max_atoms", "star.max_atoms", "critic.max_atoms")
        ),
        *((field, value_of(config, field) >= 1, "at least 1") for field in AT_LEAST_ONE),
    ]


def _question_rules(config: ConfigDict, domain: Domain) -> list[Rule]:
    """What holds of the sections of the questions that are asked."""
    evaluation, rounds = config.evaluation, config.star.rounds
    rules: list[Rule] = []
    for question in ("controls", "temperature", "critics"):
        few = config[question].trajectories
        if asks(config, question):
            rules += [
                (f"{question}.trajectories", 1 <= few <= config.trajectories, "1 to config.trajectories"),
                ("star.rounds", rounds >= 1 or question == "critics", f"at least 1 for {question}"),
            ]
    for question in ("reach", "selectors"):
        asked = asks(config, question)
        rules.append(
            ("questions", not asked or domain.provenance is not None, f"without {question}: answers of "
             f"{config.domain} are no programs")
        )
    if asks(config, "arm"):
        most, other = max(domain.difficulties), config.star.max_atoms
        fits = 1 <= config.arm.max_atoms <= most and config.arm.max_atoms != other
        rules.append(("arm.max_atoms", fits, f"from 1 to {most} and not star.max_atoms ({other})"))
    if asks(config, "controls"):
        rules.append(
            (
                "controls.samples",
                config.controls.samples >= 2 * evaluation.large_k,
                "at least twice evaluation.large_k",
            )
        )
    if asks(config, "null"):
        enough = config.null.samples >= evaluation.samples
        rules.append(("null.samples", enough, "at least evaluation.samples"))
    if asks(config, "critics"):
        visible = config.critics.visible
        rules += [
            (
                "critics.visible",
                all(1 <= shown < EXAMPLES for shown in visible) and len(set(visible)) == len(visible),
                f"different numbers from 1 to {EXAMPLES - 1}",
            ),
            (
                "critics.samples",
                config.critics.samples >= evaluation.small_k,
                "at least evaluation.small_k",
            ),
        ]
    if asks(config, "other_base"):
        rules.append(("critics.model_dir", bool(config.critics.model_dir), "the directory of another base"))
    if asks(config, "reach"):
        pools = [evaluation.samples, evaluation.other_samples, evaluation.middle_samples]
        pools += [config.controls.samples] if asks(config, "controls") else []
        reach, plain = config.reach, {"temperature": 1.0, "top_k": 0, "top_p": 1.0}
        rules += [
            (
                "reach.samples",
                1 <= reach.samples <= min(pools),
                f"from 1 to {min(pools)}, the fewest samples that a model answers a task with",
            ),
            ("reach.budgets", min(reach.budgets, default=0) >= 1, "one or more, each >= 1"),
            ("reach.at", reach.at >= 1, "at least 1"),
            # its check is that of right samples there are as many as m says
            *(
                (f"sampling.{name}", config.sampling[name] == value, f"{value} where reach is asked")
                for name, value in plain.items()
            ),
        ]
    if asks(config, "temperature"):
        section = config.temperature
        values, further = list(section.compared), list(section.matching)
        rules += [
            (
                "temperature.compared",
                len(values) == 3 and increasing(values) and config.sampling.temperature in values[:2],
                "three temperatures above 0, increasing, sampling.temperature the first or second",
            ),
            (
                "temperature.matching",
                increasing([*further, values[0]]),
                "temperatures above 0, increasing, below those of temperature.compared",
            ),
            (
                "temperature.samples",
                2 * evaluation.large_k <= section.samples <= evaluation.samples,
                "from twice evaluation.large_k to evaluation.samples",
            ),
            ("temperature.tuning_samples", section.tuning_samples >= 2, "at least 2"),
        ]
    return rules


def increasing(temperatures: Sequence[float]) -> bool:
    """Whether they are above 0 and each above the one before."""
    return all(before < after for before, after in itertools.pairwise([0, *temperatures]))


def value_of(config: ConfigDict, field: str) -> int:
    """The value of a field with dots in its name."""
    for name in field.split("."):
        config = config[name]
    return config
