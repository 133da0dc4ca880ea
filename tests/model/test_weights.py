"""A ported directory gives what its Hugging Face directory gives."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from constellation.model import port, weights
from constellation.model.config import ModelConfig
from constellation.model.model import SMALL_FILES, check_model, load_model
from constellation.model.quantize import Nibbles
from constellation.runtime.errors import UserError
from tests.tiny_study import ROOT

HOW, DTYPE = "int4:16:clip:int8_embedding", "bfloat16"


def write(source: Path, out: Path, quantization: str = HOW, dtype: str = DTYPE) -> None:
    leaves = port.leaves(source, ModelConfig.from_dir(source), dtype, quantization)
    described = {"quantization": quantization, "dtype": dtype}
    described["hash"] = check_model(source, quantization, dtype)
    weights.write_ported(source, SMALL_FILES, out, leaves, described)


@pytest.fixture(scope="module")
def written(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("ported")
    write(model_dir, out)
    return out


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("quantization", ["", "int4:16", HOW])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_same_model(make_dir, tmp_path: Path, tied: bool, quantization: str, dtype: str) -> None:
    source = make_dir(tie_word_embeddings=tied, shard="100KB")
    write(source, tmp_path / "out", quantization, dtype)
    one, other = (load_model(path, quantization, dtype) for path in (source, tmp_path / "out"))
    jax.tree.map(np.testing.assert_array_equal, one.params, other.params)
    dtypes = [[leaf.dtype for leaf in jax.tree.leaves(model.params)] for model in (one, other)]
    assert dtypes[0] == dtypes[1]
    assert (one.hash, one.stop_ids, one.config) == (other.hash, other.stop_ids, other.config)
    chat = [{"role": "user", "content": "ab"}]
    assert one.tokenizer.chat(chat) == other.tokenizer.chat(chat)


def test_int4_takes_half_a_byte(model_dir: Path) -> None:
    leaves = dict(port.leaves(model_dir, ModelConfig.from_dir(model_dir), jnp.bfloat16, "int4:16"))
    leaf = leaves["layers/q_proj"]
    assert isinstance(leaf, Nibbles)
    assert leaf.nibbles.dtype == np.uint8 and leaf.nibbles.size == 3 * 64 * 48 // 2


@pytest.mark.parametrize(
    ("quantization", "dtype", "field"), [("int4:16", DTYPE, "quantization"), (HOW, "float32", "dtype")]
)
def test_another_quantisation_is_refused(written: Path, quantization: str, dtype: str, field: str) -> None:
    for function in (check_model, load_model):
        with pytest.raises(UserError, match=f"set model.{field}"):
            function(written, quantization, dtype)


@pytest.fixture
def copy(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "copy"))


def test_a_missing_array(copy: Path) -> None:
    shutil.rmtree(copy / "weights/layers/q_proj.scale")
    with pytest.raises(UserError, match=r"lacks layers/q_proj\.scale"):
        check_model(copy, HOW, DTYPE)
    with pytest.raises(UserError, match="missing or damaged"):
        load_model(copy, HOW, DTYPE)


def test_a_damaged_array(copy: Path) -> None:
    manifest = json.loads((copy / weights.MANIFEST).read_text())
    manifest["arrays"]["embed.scale"] = "0" * 32
    (copy / weights.MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=r"embed\.scale is damaged"):
        load_model(copy, HOW, DTYPE)
    largest = max((copy / "weights/layers/up_proj.nibbles").rglob("*"), key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:-20])
    with pytest.raises(UserError, match="damaged"):
        load_model(copy, HOW, DTYPE)


def test_an_unfinished_port_is_written_again_and_a_whole_one_is_not(model_dir: Path, tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def killed():
        for number, leaf in enumerate(port.leaves(model_dir, ModelConfig.from_dir(model_dir), DTYPE, HOW)):
            if number == 3:
                raise Killed
            yield leaf

    with pytest.raises(Killed):
        weights.write_ported(model_dir, SMALL_FILES, tmp_path, killed(), {})
    assert not weights.is_ported(tmp_path)
    write(model_dir, tmp_path)
    load_model(tmp_path, HOW, DTYPE)
    with pytest.raises(UserError, match="not empty"):
        write(model_dir, tmp_path)


def test_the_program(model_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "launch.port_weights", f"--model_dir={model_dir}", f"--out={out}"]
    subprocess.run([*command, "--quantization=int4:16"], cwd=ROOT, check=True, capture_output=True)
    assert load_model(out, "int4:16", DTYPE).hash == check_model(model_dir, "int4:16", DTYPE)
    again = subprocess.run([*command, "--quantization=int4:48x"], cwd=ROOT, capture_output=True, text=True)
    assert again.returncode == 2 and again.stderr.count("\n") == 1 and "int4:48x" in again.stderr
