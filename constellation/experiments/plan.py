"""What a study takes: memory against the budget, the batch sizes that fit, and hours a stage."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from constellation.domains.domain import Domain, load_domain
from constellation.domains.task import split
from constellation.experiments.config import (
    BASE,
    CRITIC,
    PRIOR_CRITIC,
    START,
    check,
    load_base,
    memory_of,
    sample_count,
    value_of,
)
from constellation.experiments.controls import BANKS as CONTROL_BANKS
from constellation.generator import padded_prompt
from constellation.memory import GIB, Footprint, Memory
from constellation.model.lora import layer_weights
from constellation.model.model import Model
from constellation.model.prefix import shared_length
from constellation.model.sampling import SamplingConfig
from constellation.model.score import TEXT_TOKENS_A_ROW, rows_a_batch
from constellation.selftraining.batches import TrainingExample, pack
from constellation.selftraining.warm_start import generator_example

TASKS = 64  # whose prompts and programs stand for all


class Speed(NamedTuple):
    """Of a device, and the share of it that is reached: bytes and operations a second."""

    bandwidth: float
    matmul: float


class StagePlan(NamedTuple):
    """A stage: what it works through, and how long."""

    name: str
    work: str
    seconds: float


class Workload(NamedTuple):
    """Lengths, in tokens, of what a study's prompts and programs are like.

    prefix: shared by all prompts; prompt, answer: means of the rest and of the secret programs.
    """

    prompts: list[list[int]]
    pool: list[TrainingExample]
    prefix: int
    prompt: float
    answer: float


def print_plan(config: ConfigDict, platform: str, speed: Speed) -> None:
    """Prints the plan of a study.

    Args:
        platform: "cpu" or "gpu", which the study is to run on; it need not be here.
        speed: of a device.

    Raises:
        UserError: a config that is not allowed, or that does not fit its budget.
    """
    check(config)
    memory, work, rows, footprints = check_plan(config, platform)
    base, budget = config.model, config.memory.budget_gib
    print(f"{base.dir}, {base.quantization or 'dense'}, {base.dtype}, on one {platform}")
    print(f"{'GiB':32}" + "".join(f"{name:>11}" for name in (*Footprint._fields, "total")))
    for name, footprint in footprints.items():
        print(f"{name:32}" + "".join(f"{size / GIB:11.2f}" for size in (*footprint, footprint.total)))
    print(f"budget: {budget:.1f} GiB" if budget else "budget: none (memory.budget_gib = 0)")
    print(
        f"\nprompts of {work.prefix} shared + {work.prompt:.0f} tokens, programs of {work.answer:.0f}; at "
        f"{speed.bandwidth / 1e9:.0f} GB/s and {speed.matmul / 1e12:.2f} TFLOP/s reached"
    )
    stages = stage_plans(config, memory, work, rows, speed)
    for stage in stages:
        print(f"{stage.name:24}{stage.work:>44}{stage.seconds / 3600:10.3f} h")
    print(f"{'all':24}{'':44}{sum(stage.seconds for stage in stages) / 3600:10.3f} h")


def check_plan(config: ConfigDict, platform: str) -> tuple[Memory, Workload, int, dict[str, Footprint]]:
    """The memory, the workload, how many samples are decoded at a time, and the footprints by their names.

    Raises:
        UserError: a (checked) config that does not fit its budget.
    """
    domain = load_domain(config.domain)
    model = load_base(config, domain, weights=False)
    memory, work = memory_of(config, model.config, platform), workload(model, domain, config)
    sampling, training = SamplingConfig(n=config.evaluation.samples, **config.sampling), config.training
    rows = memory.sampling_rows(work.prompts, sampling)
    trained = memory.micro_batch(work.pool, training.batch_size, training.remat) or training.batch_size
    longest = pack([max(work.pool, key=lambda example: example.length)])
    width, targets = longest.tokens.shape[1], longest.target.shape[1]
    prompt = padded_prompt(max(map(len, work.prompts)) - work.prefix)
    scored = prompt + TEXT_TOKENS_A_ROW
    memory.check_scoring(work.prefix, scored)
    footprints = {
        f"sampling, {rows} at a time": memory.sampling(rows, work.prefix, prompt, sampling),
        f"training, {trained} rows of {width}": memory.training(trained, width, targets, training.remat),
        f"scoring, {rows_a_batch(scored, work.prefix)} rows of {scored}": memory.scoring(work.prefix, scored),
    }
    return memory, work, rows, footprints


def workload(model: Model, domain: Domain, config: ConfigDict) -> Workload:
    """Measured on tasks of the tuning role, with the model's own tokenizer."""
    tasks = domain.make_bank("tuning_hard", TASKS, config.tasks.seed)
    splits = [split(task, config.tasks.split_seed, config.tasks.visible) for task in tasks]
    prompts = [model.chat(domain.messages(of)) for of in splits]
    examples = zip(tasks, splits, strict=True)
    pool = [generator_example(model, domain, of, [task.program]) for task, of in examples]
    prefix = shared_length(prompts)
    return Workload(
        prompts,
        pool,
        prefix,
        float(np.mean([len(ids) for ids in prompts])) - prefix,
        float(np.mean([example.targets for example in pool])),
    )


def stage_plans(
    config: ConfigDict, memory: Memory, work: Workload, rows: int, speed: Speed
) -> list[StagePlan]:
    """Hours a stage, from bytes and operations; tasks, verifier and report, on the host, come on top."""
    star, evaluation, tasks = config.star, config.evaluation, config.tasks
    with_arm = star.rounds > 0 and star.arm_max_atoms not in (0, star.max_atoms)
    arms = [f"_{star.arm_max_atoms}_atoms"] if with_arm else []
    names = [START, *(f"v{number}" for number in range(1, star.rounds + 1)), *arms]
    seeds = {*evaluation.selection_split_seeds} - {tasks.split_seed}
    own_seeds = len(seeds - {*evaluation.split_seeds})  # those sampled for selection alone
    slices = config.mesh.data

    def sampled(name: str, count: int, n: int, each: int = config.trajectories) -> StagePlan:
        count *= each
        seconds = sampling_seconds(memory, work, count, n, rows, speed, config.sampling.int8_kv) / slices
        return StagePlan(name, f"{count:,} tasks x {n} samples", seconds)

    def trained(name: str, visits: int, extra: float = 0.0, each: int = config.trajectories) -> StagePlan:
        length = work.prefix + work.prompt + work.answer + extra
        visits *= each
        seconds = training_seconds(memory, visits * length, speed, config.training.remat) / slices
        return StagePlan(name, f"{visits:,} documents of {length:.0f} tokens", seconds)

    def answers(name: str) -> int:
        """To one task of every bank, the hard one's under each of its split seeds."""
        banks = [bank for bank in tasks.banks for _ in (evaluation.split_seeds if bank == "hard" else [0])]
        return sum(value_of(config, sample_count(config, bank, name)) for bank in banks)

    def question(count: float) -> float:
        return count * (work.answer + 10)

    selectors = config.critic.selectors  # scores of a second critic, and likelihoods
    scored = 1 + star.rounds
    critic_rows = (len(set(tasks.banks) - {"withheld"}) * scored + len(seeds)) * tasks.bank_size
    critic_rows *= config.trajectories * (3 if selectors else 1)
    variants, varied, refreshed = config.variants, config.variants.trajectories, min(star.rounds, 1)
    critics = refreshed + bool(config.critic.model_dir)  # on another base as if on this one
    critic_rows += varied * critics * tasks.bank_size
    scoring = critic_rows * (work.prompt + question(evaluation.samples / 4))
    prompted = len(set(variants.visible) - {tasks.visible}) * tasks.bank_size
    scoring += varied * prompted * (work.prompt + question(variants.samples / 4))
    asked = question(config.critic.samples / 4) - work.answer
    stages = [trained(START, config.warm_start.passes * config.warm_start.tasks)]
    for arm in ("", *arms):
        for number in range(1, star.rounds + 1):
            stages.append(sampled(f"v{number}{arm} samples", star.tasks, star.samples))
            stages.append(trained(f"v{number}{arm}", star.passes * star.tasks))
    few = config.controls.trajectories
    if few:
        banks = list(CONTROL_BANKS.values())
        hard, withheld = banks.count("hard") * tasks.bank_size, banks.count("withheld") * tasks.bank_size
        first_round = sample_count(config, "hard", "v1")
        again = tasks.bank_size * (value_of(config, first_round) < config.controls.samples)
        stages += [
            sampled("control samples", star.tasks, star.samples, few),
            trained("controls", len(CONTROL_BANKS) * star.passes * star.tasks, each=few),
            trained("permuted critic", config.critic.passes * config.critic.tasks, asked, few),
            sampled("control evaluation", hard, config.controls.samples, few),
            sampled("first round beside controls", again, config.controls.samples, few),
            sampled("withheld controls", withheld, evaluation.other_samples, few),
        ]
        if evaluation.null_samples:
            stages.append(sampled("null pool", tasks.bank_size, evaluation.null_samples, few))
    heat = config.temperatures
    if heat.trajectories:  # two models at all but the config's own temperature, and gen_v0 at the matched one
        tuned = 2 * len(heat.compared) + len(heat.matching)
        hard = 2 * len(heat.compared) - 1
        stages += [
            sampled("temperature tuning", tuned * tasks.bank_size, heat.tuning_samples, heat.trajectories),
            sampled("temperature samples", hard * tasks.bank_size, heat.samples, heat.trajectories),
        ]
    if varied:
        stages += [
            sampled("other visible examples", prompted, variants.samples, varied),
            sampled("refreshed candidates", refreshed * config.critic.tasks, config.critic.samples, varied),
            trained("other critics", critics * config.critic.passes * config.critic.tasks, asked, varied),
        ]
    return [
        *stages,
        sampled("critic samples", config.critic.tasks, config.critic.samples),
        *(
            trained(name, config.critic.passes * config.critic.tasks, asked)
            for name in (CRITIC, *([PRIOR_CRITIC] if selectors else []))
        ),
        sampled(f"{BASE} samples", tasks.bank_size, answers(BASE), 1),
        sampled("evaluation samples", tasks.bank_size, sum(map(answers, names))),
        sampled("selection samples", own_seeds * tasks.bank_size, evaluation.selection_samples),
        sampled("selector tuning", selectors * tasks.bank_size, evaluation.tuning_samples),
        StagePlan(
            "critic scores",
            f"{critic_rows:,} tasks, a quarter of the samples",
            operations(memory, scoring) / speed.matmul / slices,
        ),
    ]


def sampling_seconds(
    memory: Memory, work: Workload, tasks: int, n: int, rows: int, speed: Speed, int8_kv: bool
) -> float:
    """Prefill bound by operations; every step bound by reading weights, prompts' KV and answers' KV."""
    steps = tasks * n * work.answer / rows
    kv = memory.kv_token(int8_kv) * rows * (work.answer / 2 + work.prompt / min(n, 8))
    kv += memory.kv_token(False) * work.prefix
    weights = memory.sampling(1, 0, 1, SamplingConfig(n=1)).weights * memory.devices
    decode = steps * (weights + kv) / (speed.bandwidth * memory.devices)
    return decode + operations(memory, tasks * work.prompt) / speed.matmul


def training_seconds(memory: Memory, tokens: float, speed: Speed, remat: bool) -> float:
    """Forward, backward to the inputs alone (the weights are frozen), and the forward again with remat."""
    return (3 if remat else 2) * operations(memory, tokens) / speed.matmul


def operations(memory: Memory, tokens: float) -> float:
    """Of one forward pass through the projections, two for each weight and token, on one device."""
    weights = memory.config.num_hidden_layers * layer_weights(memory.config)
    return 2 * weights * tokens / memory.devices
