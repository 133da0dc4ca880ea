"""The round's pure functions against their definitions: order, agreement, PMI, weights, targets."""

from __future__ import annotations

from collections import Counter

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from constellation.domains.equations import DOMAIN
from constellation.domains.task import split
from constellation.model.decoder import init_params
from constellation.model.lora import init_adapter, stack
from constellation.model.model import Generator, load_model
from constellation.model.score import log_prob
from constellation.nano.pretraining import write_model
from constellation.nano.tokenizer import STYLES, build_tokenizer
from constellation.runtime.keys import Address, fold
from constellation.selftraining.peers import (
    ARMS,
    Answers,
    Arm,
    Learning,
    Question,
    Target,
    agreement,
    draw_order,
    peer_examples,
    peer_prompt,
    pmi,
    sequence_targets,
    weights,
)
from constellation.selftraining.star import target_ids
from tests.tiny_study import tiny_model_config

TASKS = DOMAIN.training_tasks("star", 6, 2)
RNG = np.random.default_rng


def visible(task):
    return split(task, 0)


def spoken(values: list[list[int]], order: list[list[int]] | None = None) -> Answers:
    """Answers in sequence that say these values."""
    shape = np.array(values).shape
    orders = np.array(order) if order else np.tile(np.arange(shape[1]), (shape[0], 1))
    return Answers(orders, [[f"answer {value}" for value in row] for row in values], np.ones(shape, bool))


def test_an_order_is_a_function_of_its_address_and_every_order_comes():
    address = Address(0, "order", "round 1")
    ids = [str(number) for number in range(600)]
    drawn = draw_order(address, 0, ids, 3)
    assert (draw_order(address, 0, ids[::-1], 3)[::-1] == drawn).all()  # not of its place
    assert (draw_order(address, 1, ids, 3) != drawn).any()
    counts = Counter(map(tuple, drawn.tolist()))
    assert len(counts) == 6 and min(counts.values()) > 60  # 100 +- 4 deviations


@given(arrays(int, st.tuples(st.just(6), st.integers(2, 5)), elements=st.integers(0, 2)))
def test_the_majority_is_the_most_frequent_answer_the_later_of_equals(values):
    found = agreement("last", DOMAIN, TASKS, visible, spoken(values.tolist()))
    for row, key, place in zip(values.tolist(), found.key.tolist(), found.majority.tolist(), strict=True):
        assert [key.index(k) for k in key] == [row.index(v) for v in row]
        most = max(row.count(value) for value in row)
        assert row.count(row[place]) == most
        assert all(row.count(value) < most for value in row[place + 1 :])
    assert (found.reference == values.shape[1] - 1).all()
    voted = agreement("majority", DOMAIN, TASKS, visible, spoken(values.tolist()))
    assert (voted.reference == found.majority).all()


def test_what_came_to_no_end_says_nothing():
    finished = np.array([[False, False, True], [False, False, False], [True, True, False]])
    answers = Answers(np.tile(np.arange(3), (3, 1)), [["3*4=12", "3*4=12", "answer 7"]] * 3, finished)
    found = agreement("majority", DOMAIN, TASKS[:3], visible, answers)
    assert found.majority.tolist() == [2, 2, 1]  # of none, the last
    assert [len(set(row)) for row in found.key.tolist()] == [3, 3, 2]


def test_answers_agree_by_value_not_by_text():
    answers = Answers(np.array([[0, 1, 2]]), [["answer 1/2", "so 0.5", "answer 2"]], np.ones((1, 3), bool))
    found = agreement("last", DOMAIN, TASKS[:1], visible, answers)
    assert found.key.tolist() == [[0, 0, 1]] and found.majority.tolist() == [1]


@given(arrays(float, 7, elements=st.floats(-50, 50)), st.floats(0.1, 10))
def test_weights_fall_with_pmi(scores, tau):
    w = weights("pmi", scores, tau, RNG(0))
    np.testing.assert_allclose(w, 1 / (1 + np.exp(scores / tau)), rtol=1e-12)
    np.testing.assert_allclose(weights("inverted", scores, tau, RNG(0)), 1 - w, atol=1e-12)
    assert sorted(weights("shuffled", scores, tau, RNG(1))) == sorted(w)
    assert (weights("one", scores, tau, RNG(0)) == 1).all()
    assert (np.diff(w[np.argsort(scores)]) <= 0).all()


ORDER = [[0, 1, 2], [1, 2, 0], [2, 0, 1]]
VALUES = [[5, 5, 7], [1, 2, 3], [4, 6, 6]]
SCORES = np.array([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6], [0.7, 0.8, 0.9]])


def learnt(arm: Arm, target: str = "own", learns_last: bool = False, peer: int = 0):
    """(answer, weight) of each problem, None for nothing."""
    answers = spoken(VALUES, ORDER)
    agreed = agreement("last", DOMAIN, TASKS[:3], visible, answers)
    learning = Learning(target, learns_last, tau=1.0)
    found = sequence_targets(arm, learning, peer, answers, agreed, SCORES, RNG(0))
    return [each and (each.answer, pytest.approx(each.weight)) for each in found]


def w(score: float) -> float:
    return 1 / (1 + np.exp(score))


def test_what_peer_0_learns():
    """It stands first in the first problem, last in the second and in the middle of the third."""
    assert learnt(ARMS["pst"]) == [("answer 5", w(0.1)), None, ("answer 6", w(0.8))]
    assert learnt(ARMS["pst"], learns_last=True)[1] == ("answer 3", w(0.6))
    assert learnt(ARMS["uniform"]) == [("answer 5", 1), None, ("answer 6", 1)]
    assert learnt(ARMS["inverted"]) == [("answer 5", 1 - w(0.1)), None, ("answer 6", 1 - w(0.8))]
    # towards the reference by the same weights
    assert learnt(ARMS["towards_reference"]) == [("answer 7", w(0.1)), None, ("answer 6", w(0.8))]
    assert learnt(ARMS["pst"], target="reference") == learnt(ARMS["towards_reference"])
    # the vote: 5, the last of three, 6
    assert learnt(ARMS["majority"], learns_last=True) == [("answer 5", 1), ("answer 3", 1), ("answer 6", 1)]
    assert learnt(ARMS["majority"]) == [("answer 5", 1), None, ("answer 6", 1)]
    assert learnt(ARMS["consensus"]) == [("answer 5", 1), None, ("answer 6", 1)]


def test_the_consensus_drops_who_disagrees():
    kept = [learnt(ARMS["consensus"], learns_last=True, peer=peer) for peer in range(3)]
    values = [[each and each[0] for each in own] for own in kept]
    assert values == [
        ["answer 5", "answer 3", "answer 6"],  # alone among three the last one's is the majority
        ["answer 5", None, "answer 6"],
        [None, None, None],
    ]


def test_shuffled_weights_are_those_of_the_learnt_answers():
    found = learnt(ARMS["shuffled"])
    assert found[1] is None
    assert sorted(each[1].expected for each in found if each) == pytest.approx(sorted([w(0.1), w(0.8)]))


@pytest.fixture(scope="module", params=["qwen3", "gemma"])
def generator(request, tmp_path_factory) -> Generator:
    """Two trajectories of a tiny peer, whose adapters say different things."""
    assert DOMAIN.pretraining is not None
    tokenizer = build_tokenizer(DOMAIN.pretraining, style=STYLES[request.param])
    config = tiny_model_config(tokenizer.get_vocab_size())
    directory = tmp_path_factory.mktemp("peer")
    params = init_params(config, fold(0, "tiny"), std=0.3)
    write_model(directory, config, params, tokenizer, STYLES[request.param])
    model = load_model(directory)
    adapters = stack([init_adapter(config, fold(r, "adapter"), 4, 8.0) for r in range(2)])
    noise = jax.tree.map(lambda x: x + 0.1 * jax.random.normal(jax.random.key(1), x.shape), adapters)
    return Generator(model, noise)


def test_pmi_is_a_difference_of_two_log_probabilities(generator: Generator):
    model, single = generator.model, [["answer 5"], ["1+1=2\nanswer 2", "answer 12/5"]]
    asked = [
        [Question(TASKS[0], "answer 3", "answer 5")],
        [Question(TASKS[r], "1+1=2", single[1][r]) for r in (0, 1)],
    ]
    for per_token in (False, True):
        found = pmi(generator, DOMAIN, visible, asked, per_token, log_prob)
        assert [len(own) for own in found] == [1, 2]
        for r, own in enumerate(asked):
            alone = Generator(model, jax.tree.map(lambda x, r=r: x[r : r + 1], generator.adapters))
            for question, value in zip(own, found[r], strict=True):
                reference = target_ids(model, question.reference)
                assert reference[-1] == model.stop_ids[0]
                with_answer, without = (
                    log_prob(
                        alone,
                        [[peer_prompt(model, DOMAIN, visible, question.task, earlier)]],
                        [[[reference]]],
                    )[0][0][0]
                    for earlier in ([question.answer], [])
                )
                wanted = (with_answer - without) / (len(reference) if per_token else 1)
                assert value == pytest.approx(wanted, abs=1e-4) and abs(wanted) > 1e-3


def test_no_question_has_no_pmi(generator: Generator):
    found = pmi(generator, DOMAIN, visible, [[], [Question(TASKS[0], "a", "b")]], True, log_prob)
    assert [len(own) for own in found] == [0, 1]


def test_what_is_learnt_is_the_answer_to_the_problem_alone(generator: Generator):
    model = generator.model
    targets = [Target("answer 5", True, 0.25), None, Target("1+1=", False, 0.5)]
    examples = peer_examples(model, DOMAIN, visible, TASKS[:3], targets)
    assert [example.weights for example in examples] == [(0.25,), (0.5,)]
    for example, task, text in zip(examples, (TASKS[0], TASKS[2]), ("answer 5", "1+1="), strict=True):
        assert example.prompt.tolist() == model.chat(DOMAIN.messages(visible(task)))
        ids = example.answers[0].tolist()
        ended = ids[-1] in model.stop_ids
        assert ended == (text == "answer 5")
        assert model.tokenizer.decode(ids[:-1] if ended else ids) == text


def test_peers_read_the_earlier_answers_as_text(generator: Generator):
    prompt = peer_prompt(generator.model, DOMAIN, visible, TASKS[0], ["answer 5", "answer 6"])
    text = generator.model.tokenizer.decode(prompt)
    question = TASKS[0].examples[0].inputs[0]
    assert f"{question}\n\nAnother answer:\nanswer 5\n\nAnother answer:\nanswer 6" in text


def test_what_arms_change():
    changed = {
        name: {field for field, value in arm._asdict().items() if value != getattr(Arm(), field)}
        for name, arm in ARMS.items()
        if arm is not None
    }
    assert changed == {
        "pst": set(),
        "towards_reference": {"target"},
        "uniform": {"weight"},
        "inverted": {"weight"},
        "shuffled": {"weight"},
        "self_only": {"weight", "answers", "target"},
        "format_only": {"weight", "answers", "target", "keeps"},
        "oracle": {"weight", "answers", "target", "keeps"},
        "consensus": {"weight", "target", "keeps"},
        "majority": {"weight", "target"},
    }
