"""What the critic is asked, taught and read, against the model's own next-token logits and the verifier."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence

import jax
import numpy as np
import pytest

from constellation.critic import answer_ids, critic_examples, critic_scores
from constellation.domains.task import Example, Split, Task
from constellation.domains.trapdoor import DOMAIN as trapdoor
from constellation.experiments.critic import no_examples
from constellation.model.lora import Adapter, init_adapter, stack
from constellation.model.model import Generator, Model, load_model
from constellation.model.score import next_token_logits
from constellation.runtime.errors import UserError
from constellation.samples import SampleSet, collect
from tests.tiny_study import write_one_answer_model, write_tiny_model

# Each fits or misses the two visible examples, and generalises or does not, as the name of the task says.
CANDIDATES = {
    "uppercase": ["Upper(x)", "x", "Lower(x)", "no program", "Upper(Upper(x))"],
    "unsolved": ["Lower(x)", "no program"],
    "constant": ['Const("a")', 'Const("b")'],
}
FITS = {"Upper(x)": True, "x": True, "Upper(Upper(x))": True, 'Const("a")': True}
GENERALISES = {"Upper(x)", "Upper(Upper(x))", 'Const("a")'}


def make_task(name: str, outputs: Mapping[str, str]) -> Task:
    examples = tuple(Example((given,), output) for given, output in outputs.items())
    return Task(f"{name}-0", examples, "", 1, "", (), "critic", "word")


TASKS = [
    make_task("uppercase", {"A": "A", "BC": "BC", "d": "D", "Ef": "EF"}),
    make_task("unsolved", {"A": "AA", "BC": "BCBC", "d": "dd"}),
    make_task("constant", {"one": "a", "two": "a", "three": "a"}),
]


def first_two(task: Task) -> Split:
    return Split(task.examples[:2], task.examples[2:])


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Model:
    return load_model(write_tiny_model(tmp_path_factory.mktemp("model")))


def critics(model: Model, adapter: Adapter | None) -> Generator:
    return Generator(model, None if adapter is None else stack([adapter]))


def scores_of(model: Model, critic: Adapter | None, samples: SampleSet, split=first_two) -> np.ndarray:
    return critic_scores(critics(model, critic), trapdoor, TASKS, [samples], split)[0]


@pytest.fixture(scope="module")
def critic(model) -> Adapter:
    """Random, and far from the base."""
    adapter = init_adapter(model.config, jax.random.key(0), rank=4, alpha=8)
    for index, pair in enumerate(adapter.weights.values()):
        pair["b"] = jax.random.normal(jax.random.key(index), pair["b"].shape)
    return adapter


@pytest.fixture(scope="module")
def samples(model) -> SampleSet:
    texts = [(CANDIDATES[task.signature] * 3)[:6] for task in TASKS]
    return collect(
        [task.id for task in TASKS],
        [[np.array(model.tokenizer.encode(text), np.int32) for text in row] for row in texts],
        [[True] * len(row) for row in texts],
        texts,
        {},
    ).judge(lambda t, text: trapdoor.verdict(TASKS[t], first_two(TASKS[t]), text))


def test_the_candidates_are_what_they_are_meant_to_be(samples):
    assert {text for text, fits in zip(samples.text, samples.fits, strict=True) if fits} == set(FITS)
    assert {
        text for text, right in zip(samples.text, samples.right, strict=True) if right
    } == GENERALISES


def direct_scores(model: Model, critic: Adapter | None, samples: SampleSet) -> np.ndarray:
    """logit(yes) - logit(no) after the whole conversation, one candidate at a time."""
    yes, no = (model.tokenizer.encode(word)[0] for word in ("yes", "no"))
    scores = np.full(len(samples.task), np.nan)
    for row in np.flatnonzero(samples.fits):
        shown = first_two(TASKS[samples.task[row]])
        conversation = model.tokenizer.chat(trapdoor.critic_messages(shown, samples.text[row]))
        (((logits,),),) = next_token_logits(critics(model, critic), [[conversation]], [[[[]]]], [yes, no])
        scores[row] = logits[0] - logits[1]
    return scores


@pytest.mark.parametrize("trained", [True, False])
def test_scores_are_logit_differences_after_the_conversation(model, critic, samples, trained):
    adapter = critic if trained else None
    scores = scores_of(model, adapter, samples)
    expected = direct_scores(model, adapter, samples)
    np.testing.assert_allclose(scores, expected, atol=1e-4)
    assert np.ptp(expected[samples.fits]) > 100 * 1e-4  # they do differ
    assert np.array_equal(np.isnan(scores), ~samples.fits)  # who misses a visible example is not scored


class OtherFirstTurn:
    """A template that renders a first turn, while it is the last, unlike the same turn in a conversation."""

    def __init__(self, tokenizer):
        self._tokenizer = tokenizer

    def chat(self, messages: Sequence[Mapping[str, str]], **settings: bool) -> list[int]:
        ids = self._tokenizer.chat(messages, **settings)
        return ids if len(messages) > 1 else [*ids, *self._tokenizer.encode("think")]

    def __getattr__(self, name):
        return getattr(self._tokenizer, name)


def test_scores_where_the_template_renders_no_common_prefix(model, critic, samples):
    other = dataclasses.replace(model, tokenizer=OtherFirstTurn(model.tokenizer))
    scores = scores_of(other, critic, samples)
    np.testing.assert_allclose(scores, direct_scores(model, critic, samples), atol=1e-4)


def test_examples_are_the_survivors_with_the_verifiers_labels(model, samples):
    pool = critic_examples(model, trapdoor, TASKS, samples, first_two)
    seen = {}
    for example in pool:
        for answer in example.answers:
            text = model.tokenizer.decode([*example.prompt, *answer])
            program, label = re.search(
                r"<.assistant.>(.*?)<.*generalises\?.*>(yes|no)$", text, re.DOTALL
            ).groups()
            seen[program.removesuffix("<|end|>")] = label
    assert len(pool) == 2  # the unsolved task has no survivor
    assert seen == {program: "yes" if program in GENERALISES else "no" for program in FITS}


def test_the_label_alone_is_learnt_and_follows_the_conversation(model, samples):
    uppercase, _ = critic_examples(model, trapdoor, TASKS, samples, first_two)
    conversations = [
        model.tokenizer.chat(trapdoor.critic_messages(first_two(TASKS[0]), program))
        for program in ("Upper(x)", "x", "Upper(Upper(x))")
    ]
    assert [[*uppercase.prompt, *answer[:-1]] for answer in uppercase.answers] == conversations
    assert list(uppercase.loss_from) == [len(answer) - 1 for answer in uppercase.answers]


def test_a_critic_that_is_shown_no_examples_judges_the_program_alone(model, critic, samples):
    scores = scores_of(model, critic, samples, no_examples)
    by_text = {}
    for text, fits, score in zip(samples.text, samples.fits, scores, strict=True):
        if fits:
            assert by_text.setdefault(text, score) == pytest.approx(score, abs=1e-4)
    shown = scores_of(model, critic, samples)
    assert np.nanmax(np.abs(scores - shown)) > 100 * 1e-4
    pool = critic_examples(model, trapdoor, TASKS, samples, no_examples)
    assert len({tuple(example.prompt) for example in pool}) == 1  # of every task the same
    labels = [int(answer[-1]) for example in pool for answer in example.answers]
    with_examples = critic_examples(model, trapdoor, TASKS, samples, first_two)
    assert labels == [int(answer[-1]) for example in with_examples for answer in example.answers]
    text = model.tokenizer.decode([*pool[0].prompt, *pool[0].answers[0]])
    assert "Upper(x)" in text and '"BC"' not in text


def test_a_bank_without_survivors(model, critic, samples):
    none_fits = dataclasses.replace(samples.judged(), fits=np.zeros_like(samples.fits))
    nothing = dataclasses.replace(samples, verdicts=none_fits)
    assert critic_examples(model, trapdoor, TASKS, nothing, first_two) == []
    assert np.isnan(scores_of(model, critic, nothing)).all()


def test_answers_that_begin_with_one_token_are_refused(model, tmp_path):
    assert answer_ids(model) == tuple(model.tokenizer.encode(word)[0] for word in ("yes", "no"))
    other = load_model(write_one_answer_model(tmp_path), weights=False)
    with pytest.raises(UserError, match=f"tokenizer of {tmp_path} begins 'yes' and 'no' with one token"):
        answer_ids(other)
