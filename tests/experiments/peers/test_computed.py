"""A study of two tiny peers of two families with nothing left out: draws, PMI and trainings are computed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import nano
from constellation.conductor import Conductor, FinishedStages, finished_stage
from constellation.domains.domain import load_domain
from constellation.experiments.evaluate import evaluate_checkpoint, load_checkpoint
from constellation.experiments.files import arrays_of, samples_of
from constellation.experiments.peers.answers import Draw, answers_in, answers_in_sequence, peers_of
from constellation.experiments.peers.graph import PMI, graph, round_problems
from constellation.experiments.peers.run import run_peers
from constellation.experiments.study import Study
from constellation.model.model import Generator, check_model
from constellation.model.score import log_prob
from constellation.selftraining.finetune import load_adapters
from constellation.selftraining.peers import peer_prompt
from constellation.selftraining.star import target_ids
from tests.tiny_peers import tiny_peers, write_tiny_peer

FAMILIES = ("qwen3", "gemma")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("peers")
    return ",".join(str(write_tiny_peer(root / name, name, seed)) for seed, name in enumerate(FAMILIES))


@pytest.fixture(scope="module")
def finished(models: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of two trajectories."""
    workdir = tmp_path_factory.mktemp("study")
    run_peers(config_of(models, 2), str(workdir))
    return workdir


def config_of(models: str, trajectories: int) -> ConfigDict:
    small = {"tasks__bank_size": 2, "peers__problems": 4, "peers__learns_last": True}
    return tiny_peers(Path(), peers__models=models, trajectories=trajectories, arms="pst", **small)


def test_draws_do_not_depend_on_the_number_of_trajectories(
    finished: Path, models: str, tmp_path: Path
) -> None:
    config = config_of(models, 1)
    hashes = [check_model(directory, config.model.quantization) for directory in models.split(",")]
    with Conductor(tmp_path) as conductor:
        study = Study(config, conductor, load_domain(config.domain), hashes)
        draw = Draw(round_problems(study, 1), 1, 1.0, "round 1", "before")
        alone = answers_in_sequence(study, "answers_before", dict.fromkeys(FAMILIES), draw)
    for stage in (stage for stages in alone.places for stage in stages.values()):
        (one,), (other, _) = samples_of(stage), samples_of(finished_stage(finished, stage.name))
        np.testing.assert_array_equal(one.tokens, other.tokens)
        np.testing.assert_array_equal(one.program, other.program)


def test_the_stored_pmi_is_that_of_the_stored_answers(finished: Path, models: str) -> None:
    config = config_of(models, 2)
    study = Study(config, FinishedStages(finished), load_domain(config.domain), ["", ""])
    (made,) = graph(study).rounds
    assert made.sequence is not None
    every = answers_in(study, made.sequence)
    for number, (peer, base) in enumerate(peers_of(study).items()):
        for r, tasks in enumerate(study.tasks_of(made.problems)):
            answers, stored = every[r], arrays_of(made.pmi[peer], PMI)[r]
            assert (np.isfinite(stored) == (answers.order == number)).all()
            t, place = np.argwhere(np.isfinite(stored))[0]
            reference = target_ids(base.model, answers.texts[t][-1], bool(answers.finished[t, -1]))
            values = [
                log_prob(
                    Generator(base.model),
                    [[peer_prompt(base.model, study.domain, study.split, tasks[t], earlier)]],
                    [[[reference]]],
                )[0][0][0]
                for earlier in ([answers.texts[t][place]], [])
            ]
            assert stored[t, place] == pytest.approx((values[0] - values[1]) / len(reference), abs=1e-4)


def test_every_peer_has_learnt_in_every_trajectory(finished: Path) -> None:
    for name in FAMILIES:
        adapters, metadata = load_adapters(finished / "stages" / f"pst_1_{name}")
        grown = np.asarray(adapters.weights["q_proj"]["b"])  # from 0
        assert len(metadata["addresses"]) == len(grown) == 2
        assert np.abs(grown).max((1, 2, 3)).all() and not np.array_equal(*grown)


@pytest.mark.parametrize("peer", FAMILIES)
def test_a_peer_is_evaluated_from_its_checkpoint(finished: Path, models: str, capsys, peer: str) -> None:
    """On the base that it was trained on, whatever the model of the given config."""
    checkpoint = finished / "stages" / f"pst_1_{peer}" / "adapter"
    _, _, config = load_checkpoint(checkpoint, 1, nano.get_config())
    assert config.model.dir == models.split(",")[FAMILIES.index(peer)]
    drawn = evaluate_checkpoint(nano.get_config(), str(checkpoint), "hard", ["1", "2"], 2, trajectory=1)
    assert drawn.program.shape == (2, 2)
    assert f"pst_1_{peer} on hard: 2 tasks, 2 samples a task" in capsys.readouterr().out
