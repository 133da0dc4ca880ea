"""New tokens a second of Pass@64 sampling: ours, plain `generate`, and a loop that prefills once."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from constellation.domains.task import split
from constellation.domains.trapdoor import DOMAIN as trapdoor
from constellation.generator import sample
from constellation.model.model import Generator, load_model
from constellation.model.sampling import SamplingConfig
from constellation.runtime.keys import Address
from third_party import model_reference
from third_party.benchmarks.costs import sampling_flops
from third_party.benchmarks.harness import Measurement, fastest
from third_party.sampling_reference import plain_generate, prefill_once

SAMPLES, TOKENS = 64, 40  # samples of a task, and the most tokens of each
TASKS, REFERENCE_TASKS = 64, 8  # prompts for us, and the first so many of them for the slower references
BATCHES = (1, 4, 8)  # how many prompts are in a batch of a reference; each number is timed
REPEATS = 3


def sampling_benchmark(model_dir: str | Path) -> list[Measurement]:
    """Times the samplers on prompts of the hard bank; prefill and host are included, and stop tokens count.

    Returns:
        a row for ours, then the best batch of plain generate, then that of prefill-once.
    """
    model, reference = load_model(model_dir, "int4:32"), model_reference.load(model_dir)
    bank = trapdoor.make_bank("hard", TASKS)
    prompts = [model.chat(trapdoor.messages(split(task, 1234))) for task in bank]
    config = SamplingConfig(n=SAMPLES, max_new_tokens=TOKENS)
    ids, address = [task.id for task in bank], Address(0, "benchmark", "sampling")
    lengths: dict[tuple[str, str], list[list[int]]] = {}  # of each prompt's answers

    def ours() -> None:
        (drawn,) = sample(Generator(model), [prompts], [ids], address, config)
        lengths["ours", "256 rows"] = [[len(one.ids) + one.finished for one in answers] for answers in drawn]

    def theirs(name: str, sampler: Callable, batch: int) -> None:
        torch.manual_seed(0)  # every run draws the same
        drawn = []
        for start in range(0, REFERENCE_TASKS, batch):
            group = prompts[start : min(start + batch, REFERENCE_TASKS)]
            drawn += sampler(reference, group, model.stop_ids, config)
        lengths[name, f"{batch} x {SAMPLES} rows"] = [
            [len(answer) for answer in answers] for answers in drawn
        ]

    samplers = {"transformers generate": plain_generate, "prefill once": prefill_once}
    references = [
        partial(theirs, name, sampler, batch) for name, sampler in samplers.items() for batch in BATCHES
    ]
    best: dict[str, Measurement] = {}
    for seconds, ((name, rows), answers) in zip(
        fastest(ours, *references, repeats=REPEATS), lengths.items(), strict=True
    ):
        flops = sum(
            sampling_flops(model.config, len(prompt), counts)
            for prompt, counts in zip(prompts, answers, strict=False)
        )
        row = Measurement(
            "sampling", f"{name}, {rows}", SAMPLES, sum(map(sum, answers)), seconds, flops=flops
        )
        if name not in best or row.tokens_per_second > best[name].tokens_per_second:
            best[name] = row
    return list(best.values())
