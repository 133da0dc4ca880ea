"""The whole table on a tiny model; rows fail where one side computes something else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from constellation.model.config import ModelConfig
from constellation.model.families import FAMILIES
from constellation.model.model import load_model
from constellation.model.port import SINGLE
from constellation.runtime.errors import UserError
from third_party import training_reference
from third_party.comparison import report, training
from third_party.comparison.report import Limits
from third_party.comparison.table import LeftOut

ROOT = Path(__file__).parents[3]
LORA = {"LoRA forward", "critic scores", "LoRA gradients", "LoRA training"}


SHORT = Limits(streamed=64.0, tokens=16)  # the memory is of the process that runs all tests


@pytest.mark.parametrize("model_type", FAMILIES)
def test_the_table_passes(model_type: str, make_dir, capsys) -> None:
    """At this seed rounding decides the sign of no gradient, which twenty steps of AdamW would carry on."""
    assert report.run(make_dir(model_type=model_type, seed=1), SHORT._replace(tokens=128))
    _, *rows, last = capsys.readouterr().out.splitlines()
    assert len(rows) == 19 and all(row.endswith("pass") for row in rows)
    assert last.startswith("peak memory ")


def test_another_lora_scale_fails(model_dir, batch) -> None:
    reference = training_reference.load_peft(model_dir, training.RANK, training.ALPHA + 1)
    rows = training.lora_rows(load_model(model_dir), reference, batch)
    assert {row.name for row in rows if not row.passed} == LORA


def test_a_large_model_is_streamed_and_the_table_says_so(make_dir, model_dir, capsys) -> None:
    perturbed = make_dir(perturbed="model.layers.0.self_attn.q_proj.weight")
    rows = list(report.compare(model_dir, perturbed, SHORT._replace(whole=2**17)))
    failed = {row.name for row in rows if not isinstance(row, LeftOut) and not row.passed}
    assert {"hidden states, streamed", "each layer, streamed", "logits, streamed"} <= failed
    assert [row.name for row in rows if isinstance(row, LeftOut)] == [
        "logits, whole", "decoding, LoRA, critic, peers, int4"
    ]  # fmt: skip
    assert not report.show(rows)
    assert "stand for it" in capsys.readouterr().out


def test_the_size_of_qwen3_4b() -> None:
    from tests.model.test_config import QWEN3_4B

    assert report.float32_bytes(ModelConfig.from_fields(QWEN3_4B)) / 2**30 == pytest.approx(14.98, abs=0.01)


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda directory: (directory / "config.json").unlink(), "must be a Hugging Face model directory"),
        (lambda directory: (directory / SINGLE).unlink(), "fetch the model's weights"),
        (lambda directory: (directory / SINGLE).write_bytes(b"no"), "damaged or cut short"),
    ],
)
def test_a_mistake_is_named(make_dir, damage, message) -> None:
    directory = make_dir()
    damage(directory)
    with pytest.raises(UserError, match=message):
        report.run(directory)


# Stand-ins for the comparisons, which take long to import.
PROGRAM = """
import runpy, sys, types
report, study = (types.ModuleType(f"third_party.comparison.{name}") for name in ("report", "study"))
report.run = lambda model_dir: model_dir == "same"
study.Sizes = lambda *sizes: sizes
study.run = lambda config, workdir, sizes: (config.seed, workdir, sizes) == (2, "same", (4, 100, 64))
package = types.ModuleType("third_party.comparison")
package.report, package.study = report, study
sys.modules |= {module.__name__: module for module in (package, report, study)}
sys.argv[0] = "compare_pytorch"
runpy.run_module("launch.compare_pytorch", run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize(
    "flags, code",
    [
        (["--model_dir=same"], 0),
        (["--model_dir=other"], 1),
        (["--study", "--workdir=same"], 0),
        (["--study", "--workdir=other"], 1),
    ],
)
def test_the_program_exits_with_one_where_a_row_fails(flags, code) -> None:
    command = [sys.executable, "-c", PROGRAM, *flags]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (code, "")
