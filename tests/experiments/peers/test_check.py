"""A mistake in the config of a study of peers: one line that names the field, and nothing is written."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from constellation.experiments.peers.check import check_peers
from constellation.experiments.peers.plan import PeersPlan
from constellation.experiments.peers.run import run_peers
from constellation.runtime.errors import UserError
from tests.tiny_peers import Answering, tiny_peers, write_tiny_peer


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_peer(tmp_path_factory.mktemp("peer") / "model")


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"peers__tau": 0.0}, "config.peers.tau = 0.0 must be above 0"),
        (
            {"peers__models": "one", "peers__seeds": "0"},
            "config.peers.models = ('one',) must be two directories",
        ),
        ({"peers__seeds": "3,3"}, "config.peers.seeds = (3, 3) must be different for peers of one directory"),
        ({"peers__seeds": "0"}, "config.peers.seeds = (0,) must be one number for each of peers.models"),
        ({"peers__reference": "first"}, "config.peers.reference = 'first' must be last or majority"),
        ({"peers__target": "both"}, "config.peers.target = 'both' must be own or reference"),
        ({"peers__restart": "v0"}, "config.peers.restart = 'v0' must be continue or base"),
        ({"peers__level": 9}, "config.peers.level = 9 must be from 1 to 5"),
        ({"arms": "pst,psst"}, "unknown arm in config.arms: 'psst'; did you mean 'pst'?"),
        ({"arms": "uniform"}, "config.arms = ('uniform',) must be arms with pst among them"),
        ({"arms": "pst,pst"}, "config.arms = ('pst', 'pst') must be different arms"),
        ({"tasks__bank": "withheld"}, "config.tasks.bank = 'withheld' must be one of easy, hard"),
        (
            {"evaluation__quantiles": "1.5"},
            "config.evaluation.quantiles = (1.5,) must be different numbers in (0, 1)",
        ),
        ({"peers__problems": 0}, "config.peers.problems = 0 must be at least 1"),
        ({"sampling__temperature": -1.0}, "sampling.temperature = -1.0 must be at least 0"),
    ],
)
def test_refused_by_name(model_dir: Path, tmp_path: Path, fields: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        run_peers(tiny_peers(model_dir, **fields), str(tmp_path / "study"), Answering())
    assert not (tmp_path / "study").exists()


def test_peers_of_one_name_are_refused(model_dir: Path) -> None:
    with pytest.raises(UserError, match=r"config\.peers\.models = .* must be directories whose last parts"):
        check_peers(tiny_peers(model_dir, peers__models="a/x,b/x", peers__seeds="0,0"))


def test_a_scorer_that_is_a_peer_is_refused(model_dir: Path) -> None:
    with pytest.raises(UserError, match=r"config\.peers\.scorer = .* must be self, last, or the directory"):
        check_peers(tiny_peers(model_dir, peers__scorer=model_dir))


def test_a_peer_without_a_chat_template_is_refused(model_dir: Path, tmp_path: Path) -> None:
    other = write_tiny_peer(tmp_path / "mute", "llama")
    settings = json.loads((other / "tokenizer_config.json").read_text())
    del settings["chat_template"]
    (other / "tokenizer_config.json").write_text(json.dumps(settings))
    config = tiny_peers(model_dir, peers__models=f"{model_dir},{other}")
    with pytest.raises(UserError, match="mute has no chat template"):
        run_peers(config, str(tmp_path / "study"), Answering())
    assert not (tmp_path / "study").exists()


def test_questions_without_answers_are_refused(model_dir: Path, tmp_path: Path) -> None:
    file = tmp_path / "questions.jsonl"
    file.write_text('{"question": "1+1=?", "answer": "2"}\n{"question": "2+2=?"}\n')
    with pytest.raises(UserError, match=r"questions\.jsonl, line 2 is no question: it has no answer"):
        run_peers(tiny_peers(model_dir, domain=f"questions:{file}"), str(tmp_path / "study"), Answering())
    assert not (tmp_path / "study").exists()


def test_what_does_not_fit_the_memory_is_refused(model_dir: Path) -> None:
    with pytest.raises(UserError, match=r"memory\.budget_gib"):
        PeersPlan(tiny_peers(model_dir, memory__budget_gib=1e-4), "cpu")
