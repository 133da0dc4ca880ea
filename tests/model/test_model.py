"""Loading a whole directory."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from constellation.model.model import check_model, load_model
from constellation.model.port import SINGLE
from constellation.runtime.errors import UserError
from tests.model.tiny import CONFIG, byte_tokenizer


@pytest.fixture
def copy(model_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model_dir, tmp_path / "copy"))


def test_a_directory_becomes_a_model(model_dir: Path) -> None:
    model = load_model(model_dir, "int4:16", "bfloat16")
    assert model.config == CONFIG
    assert model.stop_ids == tuple(byte_tokenizer().convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"]))
    assert model.params["embed"].dtype == "bfloat16"
    assert model.params["layers"]["q_proj"].qvalue.dtype == "int4"


def test_the_hash_names_what_is_computed(model_dir: Path, copy: Path) -> None:
    original = load_model(model_dir).hash
    assert load_model(copy).hash == original
    seen = {original, load_model(copy, "int4:16").hash, load_model(copy, "int4:8").hash}
    seen.add(load_model(copy, dtype="bfloat16").hash)
    weights = bytearray((copy / SINGLE).read_bytes())
    weights[-4] ^= 1  # the last bit of one weight
    (copy / SINGLE).write_bytes(weights)
    seen.add(load_model(copy).hash)
    template = copy / "chat_template.jinja"
    template.write_text(template.read_text() + " ")
    seen.add(load_model(copy).hash)
    both = byte_tokenizer().convert_tokens_to_ids(["<|endoftext|>", "<|im_end|>"])
    (copy / "generation_config.json").write_text(json.dumps({"eos_token_id": [3, *both]}))
    assert load_model(copy).stop_ids == (both[1], 3, both[0])  # the template's own end of an answer first
    (copy / "generation_config.json").write_text(json.dumps({"eos_token_id": 3}))
    assert load_model(copy).stop_ids == (3,)
    seen.add(load_model(copy).hash)
    assert len(seen) == 7


def test_a_check_reads_no_weights_but_refuses_the_same(model_dir: Path, copy: Path) -> None:
    assert check_model(model_dir, "int4:16") == load_model(model_dir, "int4:16").hash
    weights = (copy / SINGLE).read_bytes()
    (copy / SINGLE).write_bytes(weights[:-1])
    for read in (check_model, load_model):
        with pytest.raises(UserError, match="cut short"):
            read(copy)
        with pytest.raises(UserError, match="groups of 5"):
            read(model_dir, "int4:5")


@pytest.mark.parametrize("content", [None, "{", "{}", '{"eos_token_id": null}', '{"eos_token_id": [1, 272]}'])
def test_stop_ids_are_needed(content: str | None, copy: Path) -> None:
    path = copy / "generation_config.json"
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(UserError, match="generation_config"):
        load_model(copy)


def test_an_unknown_dtype_and_an_unknown_directory(copy: Path) -> None:
    with pytest.raises(UserError, match=r"model\.dtype"):
        load_model(copy, dtype="float16")
    with pytest.raises(UserError, match=r"model\.dir"):
        load_model(copy / "absent")
