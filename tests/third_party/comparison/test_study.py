"""Both sides of a study in small, with real sampling and training; a side that does otherwise is seen.

Random weights write no program, so a lenient verifier stands in: a letter ends an answer, and an empty answer
is right. A round that is trained on its right answers then learns to end them at once.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from string import ascii_letters
from typing import Any

import numpy as np
import pytest
from ml_collections import ConfigDict

from constellation.domains.domain import Verdict
from constellation.domains.trapdoor import DOMAIN
from constellation.domains.trapdoor.pretraining import PRETRAINING
from constellation.model.config import ModelConfig
from constellation.model.decoder import init_params
from constellation.model.weights import MANIFEST
from constellation.nano.pretraining import write_model
from constellation.nano.tokenizer import build_tokenizer
from constellation.runtime.errors import UserError
from constellation.runtime.keys import fold
from tests.tiny_study import tiny_config, write_tiny_model
from third_party.comparison import study
from third_party.comparison.agreement import Agreement
from third_party.comparison.sides import Ours, Theirs
from third_party.comparison.study import RESULTS, Sizes

SIZES = Sizes(replicates=3, tasks=6, samples=32, ks=(1, 2, 4))
MODELS = [f"{model} pass@{k}" for model in ("theta0", "gen_v0", "v1") for k in SIZES.ks]
NAMES = [*MODELS, "D(2) of v1", "D(4) of v1"]


def lenient_judge(task, split, text) -> Verdict:
    return Verdict(valid=True, fits=not text, right=not text)


LENIENT = dataclasses.replace(DOMAIN, judge=lenient_judge)


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> ConfigDict:
    directory = write_tiny_model(tmp_path_factory.mktemp("model"))
    untied = dataclasses.replace(ModelConfig.from_dir(directory), tie_word_embeddings=False)
    params = init_params(untied, fold(0, "study"))
    tokenizer = build_tokenizer(PRETRAINING)
    learnable = params | {"lm_head": 20 * params["lm_head"]}
    write_model(directory, untied, learnable, tokenizer)
    vocabulary = tokenizer.get_vocab()
    ends = [index for token, index in vocabulary.items() if token in ascii_letters]
    (directory / "generation_config.json").write_text(json.dumps({"eos_token_id": sorted(ends)}))
    return tiny_config(
        directory,
        training__learning_rate=0.02,
        training__batch_size=16,
        star__tasks=32,
        star__samples=16,
        star__passes=10,
        star__learning_rate=0.02,
    )


@pytest.fixture(scope="module")
def finished(config, tmp_path_factory) -> Path:
    workdir = tmp_path_factory.mktemp("run")
    assert study.run(config, str(workdir), SIZES, LENIENT)
    return workdir


def results(workdir: Path) -> dict[str, dict]:
    return {row["row"]: row for row in map(json.loads, (workdir / RESULTS).read_text().splitlines())}


def test_two_sides_that_do_the_same_agree(finished) -> None:
    rows = results(finished)
    assert list(rows) == NAMES and all(row["passed"] for row in rows.values())
    # What is compared is neither nothing nor everything, and the round has learnt on either side.
    for side in ("ours", "theirs"):
        assert 0.02 < rows["theta0 pass@1"][side] < 0.3
        assert rows["v1 pass@1"][side] > rows["gen_v0 pass@1"][side] + 0.3


def test_a_finished_comparison_is_only_printed_again(config, finished, capsys) -> None:
    class IdleOurs(Ours):
        draw: Any = None
        train: Any = None

    class IdleTheirs(Theirs):
        draw: Any = None
        train: Any = None

    before = (finished / RESULTS).read_bytes()
    assert study.run(config, str(finished), SIZES, LENIENT, (IdleOurs, IdleTheirs))
    assert (finished / RESULTS).read_bytes() == before
    assert capsys.readouterr().out.count("pass\n") == len(NAMES)


class Hotter(Theirs):
    def draw(self, adapter, tasks, sampling, address):
        return super().draw(adapter, tasks, dataclasses.replace(sampling, temperature=3.0), address)


class Untrained(Theirs):
    def train(self, start, pool, updates, address, directory):
        super().train(start, [], updates, address, directory)


@pytest.mark.parametrize(
    "side, unlike",
    [(Hotter, {"v1 pass@1"}), (Untrained, {"v1 pass@1", "v1 pass@2", "D(2) of v1"})],
)
def test_a_side_that_does_otherwise_fails(side, unlike, config, finished, tmp_path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    for stage in (tmp_path / "run" / "stages").glob("pytorch_torch_*"):
        shutil.rmtree(stage)
    assert not study.run(config, str(tmp_path / "run"), SIZES, LENIENT, (Ours, side))
    failed = {name for name, row in results(tmp_path / "run").items() if not row["passed"]}
    assert unlike <= failed
    assert side is Hotter or not any(name.startswith(("theta0", "gen_v0")) for name in failed)


def test_the_rows_take_what_their_names_say() -> None:
    rng = np.random.default_rng(0)
    ours, theirs = ({model: rng.random((3, 5, 2)) for model in study.MODELS} for _ in range(2))
    rows = study.compare(ours, theirs, (1, 8), 100, 0)
    assert rows["gen_v0 pass@8"].ours == pytest.approx(ours["gen_v0"][..., 1].mean())
    assert rows["v1 pass@1"].theirs == pytest.approx(theirs["v1"][..., 0].mean())
    change = [(side["v1"] - side["gen_v0"])[..., 1].mean() for side in (ours, theirs)]
    assert [rows["D(8) of v1"].ours, rows["D(8) of v1"].theirs] == pytest.approx(change)
    assert len(rows) == 7


@pytest.mark.parametrize(
    "ours, half_width, passed",
    [(0.52, 0.03, True), (0.48, 0.03, True), (0.54, 0.03, False), (0.46, 0.03, False), (0.5, 0.0, False)],
)
def test_a_row_passes_where_an_interval_holds_0(ours, half_width, passed) -> None:
    assert study.row("", Agreement(ours, 0.5, half_width, 0.05)).passed is passed


def test_a_ported_model_is_refused(config, tmp_path) -> None:
    shutil.copytree(config.model.dir, tmp_path / "model")
    (tmp_path / "model" / MANIFEST).touch()
    ported = ConfigDict(config.to_dict())
    ported.model.dir = str(tmp_path / "model")
    with pytest.raises(UserError, match="transformers cannot read"):
        study.run(ported, str(tmp_path / "run"), SIZES, LENIENT)
