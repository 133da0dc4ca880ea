"""A study with every question on, frozen: its findings, digests, plan, and what each computation is given.

What computes is stood in for by functions of their inputs alone, in integers, so that everything below is the
same on every machine: findings.json, the stages' digests, and every call with the adapter, tasks, prompts,
key, labels and loss that it was given. `python -m tests.experiments.test_oracle` writes the files anew.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from constellation.conductor import digest, read_record
from constellation.domains.task import Task, read_tasks
from constellation.domains.trapdoor import DOMAIN as trapdoor
from constellation.domains.trapdoor.pretraining import PRETRAINING
from constellation.evaluation.entries import rows_of
from constellation.experiments.plan import Speed, print_plan
from constellation.experiments.run import run
from constellation.generator import Sample
from constellation.model.decoder import init_params
from constellation.model.lora import Adapter
from constellation.nano.pretraining import write_model
from constellation.nano.tokenizer import build_tokenizer
from constellation.runtime.keys import fold, host_rng
from constellation.samples import SampleSet
from launch.common import load_config
from tests.experiments import frozen_rows, wiring
from tests.experiments.frozen_rows import Account
from tests.tiny_study import ROOT, Untrained, adapters_of, leave_trained, tiny_config, tiny_model_config
from third_party.random_model import published_fields, write_random_checkpoint

FROZEN = Path(__file__).parent / "frozen"
FIELDS = {
    "tasks__bank_size": 6,
    "trajectories": 6,
    "star__rounds": 2,
    "questions": "arm,selectors,controls,null,reach,temperature,critics,other_base",
    "arm__max_atoms": 4,
    "evaluation__middle_samples": 4,
    "evaluation__split_seeds": (7, 1234),
    "selection__split_seeds": (1234, 7, 9),
    "null__samples": 8,
    "reach__samples": 4,
    "reach__budgets": (4, 64),
    "reach__at": 64,
    "controls__trajectories": 2,
    "temperature__trajectories": 2,
    "temperature__samples": 8,
    "temperature__tuning_samples": 4,
    "critics__trajectories": 2,
    "critics__visible": (1, 2, 3),
}


def number(*parts: Any) -> int:
    """A number in [0, 2^32) that all these decide."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=4).digest(), "little")


def write_whole_model(directory: Path, seed: int) -> Path:
    """A model directory whose weights are drawn without floating point."""
    tokenizer = build_tokenizer(PRETRAINING)
    config = tiny_model_config(tokenizer.get_vocab_size())
    rng = host_rng(seed, "whole")
    shapes = jax.eval_shape(lambda: init_params(config, fold(seed, "whole")))
    params = jax.tree.map(lambda leaf: (rng.integers(-8, 9, leaf.shape) / 64).astype(leaf.dtype), shapes)
    write_model(directory, config, params, tokenizer)
    return directory


def said(adapter: Adapter | None) -> str:
    """What tells an adapter apart: "base", "fresh 0.1234", or the number that `trained` left in it."""
    if adapter is None:
        return "base"
    first = adapter.weights["q_proj"]
    mark = float(np.asarray(first["b"]).ravel()[0])
    return f"trained {int(mark)}" if mark else f"fresh {float(np.asarray(first['a']).ravel()[0]):.4f}"


def texts_of(parts: Any) -> list[list[int]]:
    return [np.asarray(part).tolist() for part in parts]


class Calls(Untrained):
    """Stand-ins for what computes, and a note of every call."""

    def __init__(self, workdir: Path):
        super().__init__(workdir)
        self.made: list[dict[str, Any]] = []

    def sample(
        self, generator, prompts, task_ids, address, config, rows, progress
    ) -> list[list[list[Sample]]]:
        files = sorted(self.workdir.rglob("stages/*/tasks*.jsonl"))
        tasks = {task.id: task for file in files for task in read_tasks(file)}
        places = [np.asarray(jax.random.key_data(key)).tolist() for key in address.keys(len(prompts))]
        self.made.append(
            {
                "call": "sample",
                "name": progress.label,
                "n": config.n,
                "temperature": config.temperature,
                "trajectories": [
                    {
                        "adapter": said(adapter),
                        "tasks": number(ids),
                        "prompts": number(texts_of(asked)),
                        "key": place,
                    }
                    for adapter, ids, asked, place in zip(
                        adapters_of(generator), task_ids, prompts, places, strict=True
                    )
                ],
            }
        )
        return [
            [
                self._answers(generator.model, tasks[task], config, (place, said(adapter), task, progress))
                for task in ids
            ]
            for adapter, ids, place in zip(adapters_of(generator), task_ids, places, strict=True)
        ]

    def _answers(self, model, task: Task, config, place) -> list[Sample]:
        *place, progress = place
        rng = host_rng(number(*place), "answers")
        # right in two spellings, wrong on one example or two, which may be held out, wrong on all, and none
        odd = [json.dumps(task.examples[i].inputs[0][:32], ensure_ascii=False) for i in rng.permutation(12)]
        almost = f'If(Equals(x, {odd[0]}), Const("z"), {task.program})'
        texts = (
            task.program,
            f'Concat({task.program}, Const(""))',
            almost,
            f'If(Equals(x, {odd[1]}), Const("y"), {almost})',
            "Upper(x)",
            "no program",
        )
        shares = rng.dirichlet((1.0, 0.5, 1.0, 0.5, 1.0, 0.5))
        drawn = (rng.random((config.n, 1)) < np.cumsum(shares)).argmax(1)
        progress.update(config.n)
        return [Sample(np.array(model.tokenizer.encode(texts[i]), np.int32), True) for i in drawn]

    def finetune(self, generator, pools, training, address, directory, metadata):
        marks = []
        learned = []
        for r, (adapter, pool) in enumerate(zip(adapters_of(generator), pools, strict=True)):
            prompts = number(texts_of(example.prompt for example in pool))
            answers = number([texts_of(example.answers) for example in pool])
            losses = number([example.loss_from for example in pool])
            parts = said(adapter), len(pool), prompts, answers, losses, list(address.parts(r))
            learned.append(
                dict(zip(("start", "examples", "prompts", "answers", "loss_from", "key"), parts, strict=True))
            )
            marks.append(
                1 + number(parts, training.updates, training.learning_rate, training.choices) % 2**20
            )
        self.made.append(
            {
                "call": "train",
                "name": metadata["name"],
                "updates": training.updates,
                "learning_rate": training.learning_rate,
                "loss": list(training.choices),
                "trajectories": learned,
            }
        )
        weights = {
            name: {
                part: np.zeros(leaf.shape, leaf.dtype)
                + np.array(marks, leaf.dtype)[:, None, None, None] * (part == "b")
                for part, leaf in pair.items()
            }
            for name, pair in generator.adapters.weights.items()
        }
        trained = Adapter(weights, generator.adapters.scale)
        return leave_trained(trained, pools, training.updates, address, directory, metadata)

    def critic_scores(self, critics, domain, tasks, samples: Sequence[SampleSet], split: Callable):
        self.made.append(
            {
                "call": "score",
                "trajectories": [
                    {
                        "critic": said(critic),
                        "tasks": number([task.id for task in tasks]),
                        "shown": number([split(task) for task in tasks]),
                        "candidates": number(list(map(str, own.text))),
                    }
                    for critic, own in zip(adapters_of(critics), samples, strict=True)
                ],
            }
        )
        return [
            np.array(
                [
                    number(said(critic), str(own.task_ids[t]), str(text)) % 1000 / 250 - 2 if fits else np.nan
                    for t, text, fits in zip(own.task, own.text, own.fits, strict=True)
                ]
            )
            for critic, own in zip(adapters_of(critics), samples, strict=True)
        ]

    def log_prob(self, generator, prompts, texts):
        self.made.append(
            {
                "call": "log_prob",
                "trajectories": [
                    {
                        "adapter": said(adapter),
                        "prompts": number(texts_of(own_prompts)),
                        "texts": number([texts_of(group) for group in own_texts]),
                    }
                    for adapter, own_prompts, own_texts in zip(
                        adapters_of(generator), prompts, texts, strict=True
                    )
                ],
            }
        )
        return [
            [
                np.array([-1.0 - number(said(adapter), np.asarray(text).tolist()) % 64 / 8 for text in group])
                for group in own_texts
            ]
            for adapter, own_texts in zip(adapters_of(generator), texts, strict=True)
        ]


@dataclasses.dataclass
class Whole:
    """The study, run: every call, findings.json, and each stage's digest without the law."""

    calls: list[dict[str, Any]]
    findings: dict[str, Any]
    digests: dict[str, str]
    workdir: Path


def run_whole(directory: Path) -> Whole:
    """Runs the study below a directory."""
    model, other = (write_whole_model(directory / name, seed) for seed, name in enumerate(("model", "other")))
    calls = Calls(directory / "study")
    config = tiny_config(model, critics__model_dir=other, **FIELDS)
    run(config, str(calls.workdir), compute=calls)
    # where the model lies is in the report's recipe, and what follows from the device in its provenance
    records = {
        path.name: read_record(path)
        for path in sorted((calls.workdir / "stages").iterdir())
        if path.name != "report"
    }
    findings = json.loads((calls.workdir / "findings.json").read_text())
    return Whole(calls.made, findings, without_law(records), calls.workdir)


def without_law(records: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Every stage's digest, had no recipe the hash of the law: that one changes with the language's code."""
    found: dict[str, str] = {}

    def named(name: str) -> str:
        if name not in found:
            recipe = records[name]["recipe"]
            assert digest(recipe) == records[name]["digest"], name
            fields = {key: value for key, value in recipe["fields"].items() if value != trapdoor.law}
            found[name] = digest(
                recipe | {"fields": fields, "inputs": {n: named(n) for n in recipe["inputs"]}}
            )
        return found[name]

    return {name: named(name) for name in records}


def planned(directory: Path) -> str:
    """What launch.plan prints of configs/qwen3_4b_full.py, of a model with the published shapes."""
    # a tokenizer of natural lengths, learnt from programs, and no more weights than that takes
    narrow = {"hidden_size": 16, "intermediate_size": 16, "head_dim": 16, "num_attention_heads": 8}
    tasks = trapdoor.make_bank("tuning_hard", 50, 0)
    corpus = [trapdoor.system, *(f"{task.examples} {task.program}" for task in tasks)]
    write_random_checkpoint(directory, published_fields("4B", 1) | narrow, corpus)
    (directory / "config.json").write_text(json.dumps(published_fields("4B")))
    flags = [f"--config.model.dir={directory}"]
    config = load_config(str(ROOT / "configs/qwen3_4b_full.py"), flags)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        print_plan(config, "gpu", Speed(500e9, 60e12))
    return printed.getvalue().replace(str(directory), "<directory>")


def differences(frozen: Any, found: Any, place: str = "") -> Iterator[str]:
    """Where two JSON values differ; numbers by more than rounding to the digits that are stored."""
    if isinstance(frozen, dict) and isinstance(found, dict):
        for key in [*frozen, *(key for key in found if key not in frozen)]:
            if key not in frozen or key not in found:
                yield f"{place}.{key}: {'new' if key in found else 'gone'}"
            else:
                yield from differences(frozen[key], found[key], f"{place}.{key}")
    elif isinstance(frozen, list) and isinstance(found, list):
        if len(frozen) != len(found):
            yield f"{place}: {len(frozen)} items -> {len(found)}"
        for i, pair in enumerate(zip(frozen, found, strict=False)):
            yield from differences(*pair, f"{place}[{i}]")
    elif isinstance(frozen, float) and isinstance(found, (int, float)):
        if not math.isclose(frozen, found, rel_tol=1e-5, abs_tol=2e-6):
            yield f"{place}: {frozen} -> {found}"
    elif frozen != found:
        yield f"{place}: {frozen!r} -> {found!r}"


def stored(name: str) -> Any:
    text = (FROZEN / name).read_text(encoding="utf-8")
    return json.loads(text) if name.endswith(".json") else text


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    return run_whole(tmp_path_factory.mktemp("whole"))


def in_order(calls: list[dict[str, Any]]) -> list[str]:
    """The calls as texts, whatever the order in which the stages were asked for."""
    return sorted(json.dumps(call, sort_keys=True) for call in calls)


def but_sources(findings: dict[str, Any]) -> dict[str, Any]:
    """The findings without the hashes of what the stages hold."""
    return findings | {
        "methods": {name: part for name, part in findings["methods"].items() if name != "sources"}
    }


def test_every_computation_is_given_what_it_was(whole: Whole) -> None:
    assert in_order(stored("calls.json")) == in_order(whole.calls)


def test_findings_are_those_frozen(whole: Whole) -> None:
    found = but_sources(whole.findings)
    account = Account(stored("findings.json"), found, differences)
    for question in frozen_rows.QUESTIONS:
        question(account)
    nested = {name: part for name, part in found.items() if name not in ("entries", "facts")}
    assert [*account.wrong, *account.rows_left(), *differences(account.frozen, nested)][:20] == []


def test_a_count_is_not_called_a_share(whole: Whole) -> None:
    """A share lies within -1 and 1, a difference of two differences within -2 and 2."""
    relative = "share of the room", "share of headroom"
    for row in rows_of(whole.findings):
        if row.unit == "share" and row.estimate is not None and not {row.quantity, row.of} & set(relative):
            assert abs(row.estimate) <= 2, (row.quantity, row.of)


def test_digests_are_those_frozen(whole: Whole) -> None:
    assert list(differences(stored("digests.json"), whole.digests)) == []


def test_every_stage_that_draws_tasks_has_their_law_in_its_recipe(whole: Whole) -> None:
    drawn = {path.parent for path in whole.workdir.glob("stages/*/tasks*.jsonl")}
    assert {"bank_withheld", "bank_tuning_hard", "tasks_v2_4_atoms", "tasks_withheld"} <= {
        stage.name for stage in drawn
    }
    for stage in drawn:
        assert read_record(stage)["recipe"]["fields"]["law"] == trapdoor.law, stage.name


def test_stages_share_what_they_must_and_differ_in_what_they_must(whole: Whole) -> None:
    drawn, trained = (wiring.named(whole.calls, kind) for kind in ("sample", "train"))
    for rows, calls in ((wiring.DRAWS, drawn), (wiring.TRAININGS, trained)):
        assert list(wiring.differences_from(rows, calls)) == []
        assert calls.keys() == {name for row in rows for name in row[:2]}  # none is left out
    assert list(wiring.equal_results(whole.workdir / "stages")) == []


def test_no_draw_is_drawn_twice_but_at_another_temperature_or_continued(whole: Whole) -> None:
    """Across stages, trajectories and banks; the stand-in answers alike at all temperatures."""
    drawn, stages = wiring.named(whole.calls, "sample"), whole.workdir / "stages"
    assert wiring.repeated_keys(drawn, ("key", "tasks")) == wiring.groups(wiring.DRAWS, "key", "tasks")
    assert wiring.repeated_keys(wiring.named(whole.calls, "train"), ("key",)) == set()
    equal = wiring.equal_files(stages, "draws_*/samples_*.npz")
    shared = wiring.groups(wiring.DRAWS, "key", "tasks", "n")
    assert equal == {frozenset(f"draws_{name}" for name in group) for group in shared}
    assert wiring.equal_files(stages, "tasks_*/tasks_*.jsonl") == set()


def test_the_plan_of_the_largest_study_is_the_one_frozen(tmp_path: Path) -> None:
    assert planned(tmp_path / "model") == stored("plan.txt")


def write_frozen() -> None:
    """Writes the frozen files anew."""
    with tempfile.TemporaryDirectory() as directory:
        whole = run_whole(Path(directory))
        FROZEN.mkdir(exist_ok=True)
        parts = {"calls": whole.calls, "findings": but_sources(whole.findings), "digests": whole.digests}
        for name, value in parts.items():
            text = json.dumps(value, indent=1, sort_keys=name != "calls")
            (FROZEN / f"{name}.json").write_text(text + "\n", encoding="utf-8")
        (FROZEN / "plan.txt").write_text(planned(Path(directory) / "planned"), encoding="utf-8")


if __name__ == "__main__":
    write_frozen()
