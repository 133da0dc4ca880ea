"""The domain's seam, and that it needs no JAX."""

from __future__ import annotations

import subprocess
import sys

import pytest

from constellation.domains.task import Task, examples_text, split
from constellation.domains.trapdoor import DOMAIN as trapdoor


def test_an_answer_is_judged_with_the_tasks_probes(hard: list[Task]):
    task = hard[0]
    verdict = trapdoor.verdict(task, split(task, 1), f"\n {task.program} ")
    assert verdict.right and verdict.probe_correct == 64
    assert not trapdoor.verdict(task, split(task, 1), "no program").valid


def test_a_majority_votes_on_held_out_outputs(hard: list[Task]):
    task = next(task for task in hard if task.atoms > 1)
    halves = split(task, 1)
    texts = (task.program, task.program.replace("(", "( "), "Upper(x)", "no program")
    keys = [trapdoor.answer_key(halves, text) for text in texts]
    assert keys[3] == trapdoor.verdict(task, halves, "no program").key
    assert keys[:3] == [trapdoor.verdict(task, halves, text).key for text in texts[:3]]
    assert keys[0] == keys[1] == tuple(example.output for example in halves.held_out)
    assert keys[2] == tuple(example.inputs[0].upper() for example in halves.held_out) and len(set(keys)) == 3


def test_the_generator_sees_the_visible_examples_alone(hard: list[Task]):
    shown = split(hard[0], 1)
    assert trapdoor.messages(shown) == [{"role": "user", "content": examples_text(shown.visible)}]


def test_the_critic_continues_the_generators_conversation(hard: list[Task]):
    shown = split(hard[0], 1)
    messages = trapdoor.critic_messages(shown, "Upper(x)")
    assert messages[:1] == trapdoor.messages(shown)
    assert messages[1] == {"role": "assistant", "content": "Upper(x)"}
    assert [message["role"] for message in messages] == ["user", "assistant", "user"]


@pytest.mark.parametrize(
    ("text", "withheld"),
    [("Upper(Lower(x))", True), (" Upper(Lower(x))\n", True), ("Upper(x)", False), ("Upper(Lower(x)", False)],
)
def test_withheld_programs_are_reserved(text: str, withheld: bool):
    assert trapdoor.reserved(text) is withheld


@pytest.mark.parametrize("package", ["domains", "domains.trapdoor", "domains.trapdoor.language"])
def test_tasks_and_language_import_no_jax(package: str):
    program = (
        f"import pkgutil, importlib, sys, constellation.{package} as package\n"
        "names = [module.name for module in pkgutil.iter_modules(package.__path__)]\n"
        "for name in names: importlib.import_module(f'{package.__name__}.{name}')\n"
        "print(len(names), sorted({'jax', 'flax', 'torch', 'transformers'} & set(sys.modules)))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    count, _, loaded = answer.strip().partition(" ")
    assert int(count) >= 2 and loaded == "[]"
