"""The warm start's examples."""

from __future__ import annotations

import json

import numpy as np
import pytest

from constellation.domains.task import split
from constellation.domains.trapdoor import DOMAIN as trapdoor
from constellation.model.model import Model, load_model
from constellation.selftraining.warm_start import generator_example, warm_start_examples
from tests.tiny_study import write_tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Model:
    return load_model(write_tiny_model(tmp_path_factory.mktemp("model")))


def test_one_example_a_task_with_its_secret_program(model):
    tasks = trapdoor.training_tasks("warm_start", 5, 3)
    pool = warm_start_examples(model, trapdoor, tasks, lambda task: split(task, 7, 3))
    assert len(pool) == 5
    for task, example in zip(tasks, pool, strict=True):
        visible, held_out = split(task, 7, 3)
        text = model.tokenizer.decode(example.prompt).removeprefix("<|user|>").removesuffix("<|assistant|>")
        assert text.split("\n") == [
            f"{json.dumps(inputs[0])} -> {json.dumps(output)}" for inputs, output in visible
        ]
        assert len(visible) == 3 and len(held_out) == 9
        (answer,) = example.answers
        assert model.tokenizer.decode(answer[:-1]) == task.program and answer[-1] == model.stop_ids[0]


def test_the_prompt_is_the_one_the_generator_is_asked_with(model):
    (task,) = trapdoor.training_tasks("warm_start", 1, 3)
    of = split(task, 1234)
    example = generator_example(model, trapdoor, of, ["Upper(x)", "x"])
    assert example.prompt.tolist() == model.tokenizer.chat(trapdoor.messages(of))
    assert [answer.tolist() for answer in example.answers] == [
        [*model.tokenizer.encode(program), model.stop_ids[0]] for program in ("Upper(x)", "x")
    ]
    assert all(answer.dtype == np.int32 for answer in example.answers)
