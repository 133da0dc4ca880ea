"""A trained adapter exported with its base by the program, and what is refused."""

from __future__ import annotations

import re

import numpy as np
import pytest
from safetensors.numpy import load_file

from constellation.model.export import prompt_logits
from constellation.model.model import load_model
from constellation.selftraining.finetune import load_adapter
from tests.tiny_study import NANO, overrides
from third_party import model_reference
from third_party.comparison.logits import LeftPadded


@pytest.fixture(scope="module")
def exported(study, model_dir, run_all, tmp_path_factory):
    """The directory that all were written to, and name -> how the program ended."""
    stages, out = study[0] / "stages", tmp_path_factory.mktemp("out")
    v1 = f"--checkpoint={stages}/v1/adapter"
    commands = {
        "v1": ["launch.export_model", v1, f"--out={out}/v1"],
        "peft": ["launch.export_adapter", v1, f"--out={out}/peft"],
        "of peft": [
            "launch.export_model",
            f"--checkpoint={out}/peft",
            f"--out={out}/of_peft",
            *overrides(model_dir),
        ],
        "dense": ["launch.export_model", v1, f"--out={out}/dense", "--dense_base"],
        "bfloat16": ["launch.export_model", v1, f"--out={out}/bfloat16", "--dtype=bfloat16"],
        "critic": [
            "launch.export_model",
            f"--checkpoint={stages}/critic/adapter",
            f"--out={out}/critic",
        ],
        "again": ["launch.export_model", v1, f"--out={out}/v1", "--dense_base"],
        "no out": ["launch.export_model", v1],
        "no checkpoint": ["launch.export_model", "--checkpoint=nowhere", f"--out={out}/nothing"],
        "no trajectory": ["launch.export_model", v1, f"--out={out}/nothing", "--trajectory=1"],
    }
    flags = [[program, f"--config={NANO}", *arguments] for program, *arguments in commands.values()]
    return out, dict(zip(commands, run_all(*flags), strict=True))


@pytest.mark.parametrize(
    "name, shown, directory, base, least, most",
    [
        ("v1", "v1", "v1", "int4:32", 0, 1e-9),
        ("of peft", "peft", "of_peft", "int4:32", 0, 1e-9),
        ("critic", "critic", "critic", "int4:32", 0, 1e-9),
        ("bfloat16", "v1", "bfloat16", "int4:32", 1e-9, 1e-4),
        ("dense", "v1", "dense", "dense", 1e-7, 1e-2),
    ],
)
def test_prints_what_it_wrote(exported, model_dir, name, shown, directory, base, least, most):
    out, results = exported
    result = results[name]
    assert result.code == 0, result.stderr
    title = re.escape(f"{shown} merged into {model_dir} ({base}): {out}/{directory}, ")
    found = re.fullmatch(title + r"[\d.e-]+ GiB, KL (\S+) nats a token\n", result.stdout)
    assert found and least <= float(found[1]) <= most, result.stdout


def test_it_is_base_and_adapter(exported, study, model_dir):
    out, _ = exported
    batch = LeftPadded.from_prompts([[5, 7, 11, 13], [8]])
    theirs = model_reference.logits(model_reference.load(out / "v1"), batch.ids, batch.attention)
    adapter, _ = load_adapter(study[0] / "stages/v1/adapter")
    ours = prompt_logits(load_model(model_dir, "int4:32"), adapter, batch.prompts)
    np.testing.assert_allclose(theirs, ours, rtol=0, atol=1e-4 * np.abs(ours).max())
    tensors, same = (load_file(out / name / "model.safetensors") for name in ("v1", "of_peft"))
    assert all(np.array_equal(tensor, same[name]) for name, tensor in tensors.items())


@pytest.mark.parametrize(
    "name, message",
    [
        ("again", "v1 is not empty: give another --out"),
        ("no out", "--checkpoint or --out is missing: give both directories"),
        ("no checkpoint", "no checkpoint in nowhere: give a directory that training wrote"),
        ("no trajectory", "holds trajectories 0 to 0, and not 1"),
    ],
)
def test_a_mistake_is_one_line(exported, name, message):
    out, results = exported
    assert (results[name].code, results[name].stdout) == (2, "")
    assert results[name].stderr.startswith("error: ") and results[name].stderr.count("\n") == 1
    assert message in results[name].stderr
    assert not (out / "nothing").exists()
