"""Two peers of different families on both sides; rows fail where one side computes something else."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from constellation.domains.equations import DOMAIN as equations
from constellation.model.model import Model, load_model
from constellation.nano.pretraining import write_model
from constellation.nano.tokenizer import STYLES, build_tokenizer
from tests.model.tiny import params_and_adapter, tiny_config
from third_party import peers_reference, training_reference
from third_party.comparison.logits import TOLERANCE
from third_party.comparison.peers import LEVEL, PROBLEMS, Peer, exchange, peer_rows
from third_party.comparison.table import Row
from third_party.comparison.training import ALPHA, RANK, make_adapters
from third_party.peers_reference import Weighted, weight

PAIR = {"qwen3": "qwen3", "gemma": "gemma3_text"}  # style of tokenizer and template -> family
PMI, WEIGHTS, GRADIENTS, TRAINING = (
    f"{what} of two peers" for what in ("PMI", "weights", "gradients", "training")
)


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> list[Model]:
    language, loaded = equations.pretraining, []
    assert language is not None
    for style, family in PAIR.items():
        tokenizer, directory = build_tokenizer(language, style=STYLES[style]), tmp_path_factory.mktemp(style)
        config = tiny_config(family, vocab_size=tokenizer.get_vocab_size())
        params, _ = params_and_adapter(config)
        write_model(directory, config, params, tokenizer, STYLES[style])
        loaded.append(load_model(directory))
    return loaded


def rows(models: Sequence[Model], side: type[peers_reference.Peer]) -> list[Row]:
    """Those of the pair, with such peers on the other side."""
    pair = [
        Peer(
            model,
            make_adapters(model.config, model.config.model_type)[1],
            side(training_reference.load_peft(model.dir, RANK, ALPHA), model.dir),
        )
        for model in models
    ]
    return list(peer_rows(pair))


def test_two_families_take_the_same_round_on_both_sides(models) -> None:
    found = rows(models, peers_reference.Peer)
    assert [row.name for row in found] == [PMI, WEIGHTS, GRADIENTS, TRAINING]
    assert all(row.passed and row.limit == TOLERANCE for row in found)


class OtherSign(peers_reference.Peer):
    def pmi(self, *asked) -> tuple[float, float]:
        whole, a_token = super().pmi(*asked)
        return -whole, -a_token


class OverWeights(peers_reference.Peer):
    """A weighted mean: the loss is divided by the weights of the tokens instead of by their number."""

    def loss(self, answers: Sequence[Weighted]) -> torch.Tensor:
        lengths = [len(self.answer(each.answer, each.finished)) for each in answers]
        return super().loss(answers) * sum(lengths) / np.dot(lengths, [each.weight for each in answers])


class NeverEnding(peers_reference.Peer):
    def answer(self, text: str, finished: bool = True) -> list[int]:
        return super().answer(text, finished=False)


class AlwaysEnding(peers_reference.Peer):
    def answer(self, text: str, finished: bool = True) -> list[int]:
        return super().answer(text)


@pytest.mark.parametrize(
    "side, unlike",
    [
        (OtherSign, {PMI, WEIGHTS, GRADIENTS, TRAINING}),
        (OverWeights, {GRADIENTS, TRAINING}),
        (NeverEnding, {PMI, WEIGHTS, GRADIENTS, TRAINING}),
        (AlwaysEnding, {PMI, WEIGHTS, GRADIENTS, TRAINING}),
    ],
)
def test_a_side_that_does_otherwise_fails(side, unlike, models) -> None:
    assert {row.name for row in rows(models, side) if not row.passed} == unlike


def test_each_peer_is_first_with_answers_that_end_and_that_do_not() -> None:
    answers = exchange(equations.training_tasks("star", PROBLEMS, LEVEL))
    for peer in range(2):
        assert sorted(set(answers.finished[answers.order[:, 0] == peer, 0])) == [False, True]
        assert sorted(set(answers.place(peer))) == [0, 1]


def test_weights_by_hand() -> None:
    assert weight(0.0, 0.1) == weight(0.0, 0.1, inverted=True) == 0.5
    assert weight(np.log(3), 1.0) == pytest.approx(0.25)  # what makes the reference likely is updated less
    assert weight(2 * np.log(3), 2.0, inverted=True) == pytest.approx(0.75)
