"""Runs the stages of an experiment, stores every one, and resumes anywhere.

A stage is a pure function of the config fields it reads, of its input stages and of its own version; these
three make its digest. It works in `stages/<name>.partial`, which becomes `stages/<name>` by one rename when
all of it is on the disk: a stage is there whole or not at all, whenever the process dies. Its record holds a
hash of every file, and a stage whose files have other hashes is refused when it is read. A stage that is run
again gives the same bytes on one machine with the same cores; elsewhere what it trains differs in the last
digits, and a warning says that the provenance does. The conductor knows no experiment.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from constellation.runtime import files
from constellation.runtime.errors import UserError, unknown
from constellation.runtime.nested import dotted
from constellation.runtime.progress import Schedule
from constellation.runtime.provenance import provenance

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


@dataclass(frozen=True)
class Stage:
    """A finished stage: `path` is a directory that no one writes to any more.

    Attributes:
        name: unique in the workdir.
        digest: hash of its recipe: name, fields, inputs' digests, version.
        path: where its results lie.
        content: hash of the digest and of the files directly in `path`; directories below hold checkpoints
            and logs, whose libraries write times and random names into them.
        work: what it works through, as the stage states it; the conductor does not read it.
    """

    name: str
    digest: str
    path: Path
    content: str = ""
    work: Any = None


class Conductor:
    """Owns a working directory and runs stages in it.

    Args:
        siblings: other workdirs. A stage that one of them has finished by the same recipe is hard-linked from
            there instead of run: no one writes to a finished stage any more.
        schedule: of all stages, to say how far the whole is.
        provenance: what makes a result besides its recipe; names and values, recorded with every stage.

    Raises:
        UserError: the workdir cannot be used, or another process is using it.
    """

    def __init__(
        self,
        workdir: str | os.PathLike[str],
        siblings: Sequence[Path] = (),
        schedule: Schedule | None = None,
        provenance: Callable[[], dict[str, str]] = provenance,
    ):
        self.workdir = Path(workdir)
        self.provenance = provenance
        self._siblings = siblings
        self._schedule = schedule or Schedule({})
        self._stages = self.workdir / "stages"
        self._warned: set[str] = set()
        try:
            self._stages.mkdir(parents=True, exist_ok=True)
            # Opened without truncation: the pid in it belongs to whoever holds the lock.
            self._lock = open(self.workdir / ".lock", "a+")  # noqa: SIM115
        except OSError as error:
            raise UserError(f"cannot use {self.workdir} as --workdir: {error.strerror}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.seek(0)
            holder = self._lock.read().strip() or "unknown"
            self._lock.close()
            raise UserError(
                f"{self.workdir} is in use by process {holder}: wait for it, or give another --workdir"
            ) from None
        self._lock.truncate(0)
        self._lock.write(str(os.getpid()))
        self._lock.flush()

    def __enter__(self) -> Conductor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets the workdir go; the end of the process, however it ends, does it as well."""
        self._lock.close()

    def stage(
        self,
        name: str,
        *,
        fields: Mapping[str, Any],
        inputs: Sequence[Stage] = (),
        version: int,
        run: Callable[[Path], None],
        derived: bool = False,
        work: Any = None,
    ) -> Stage:
        """Returns the stage, having run it unless it is there already.

        Args:
            name: letters, digits, '-' and '_'.
            fields: everything of the config that `run` reads: plain values, or ConfigDict sections.
            inputs: the stages whose results `run` reads.
            version: raised by hand whenever the code of the stage changes its results.
            run: writes the results into the directory it is given. A killed stage is run again on the same
                directory, where it may find and continue its own checkpoints.
            derived: cheap to redo, as analyses and reports are: recomputed, rather than refused, when its
                recipe has changed.
            work: what it works through, for whoever plans the study.

        Raises:
            UserError: the finished stage in the workdir was made by another recipe, or is damaged, or the
                disk is full. The workdir's finished stages are as they were.
        """
        recipe = _recipe(name, fields, inputs, version)
        wanted, path = digest(recipe), self._stages / name
        made_of = {stage.name: stage.content for stage in inputs}
        partial = self._stages / f"{name}.partial"
        replaced = self._stages / f"{name}.replaced"
        with files.disk_full_is_user_error(self.workdir):
            shutil.rmtree(replaced, ignore_errors=True)
            if path.exists():
                record = read_record(path)
                stage = _checked(path, record)
                if stage.digest == wanted and (record["made_of"] == made_of or not derived):
                    self._warn_of_provenance(name, record, made_of)
                    self._schedule.finish(name)
                    return replace(stage, work=work)
                if not derived:
                    raise UserError(
                        f"stage {name!r} in {self.workdir} was made with other settings: "
                        f"{_differences(record['recipe'], recipe)}; give another --workdir, or set them back"
                    )
            inputs_read = made_of if derived else None  # what is cheap to redo is not taken from other inputs
            if not (_is_complete(partial, wanted, inputs_read) or self._link(partial, wanted, inputs_read)):
                self._run(run, partial, recipe, made_of)
            if path.exists():
                os.rename(path, replaced)
            os.rename(partial, path)
            files.fsync(self._stages)
            shutil.rmtree(replaced, ignore_errors=True)
            self._schedule.finish(name)
        return replace(_checked(path, read_record(path)), work=work)

    def _link(self, partial: Path, wanted: str, made_of: dict[str, str] | None) -> bool:
        """Whether a sibling has the stage; then it is in `partial`, all of it by one rename."""
        name = partial.stem
        linked = self._stages / f"{name}.linked"
        shutil.rmtree(linked, ignore_errors=True)
        for sibling in self._siblings:
            finished = sibling / "stages" / name
            if _is_complete(finished, wanted, made_of):
                _checked(finished, read_record(finished))
                shutil.copytree(finished, linked, copy_function=os.link)
                shutil.rmtree(partial, ignore_errors=True)
                os.rename(linked, partial)
                print(f"{name}: linked from {sibling}", flush=True)
                return True
        return False

    def _run(
        self, run: Callable[[Path], None], partial: Path, recipe: dict[str, Any], made_of: dict[str, str]
    ) -> None:
        """Runs the stage in its partial directory and puts the result, completely described, on the disk."""
        name, record_file = recipe["name"], partial / "stage.json"
        begun = {"digest": digest(recipe), "complete": False}
        if not record_file.exists() or json.loads(record_file.read_text()) != begun:
            shutil.rmtree(partial, ignore_errors=True)
            _write_json(record_file, begun)
        files.remove_unfinished(partial)
        print(f"{name}: running{self._schedule.line()}", flush=True)
        start = time.monotonic()
        run(partial)
        seconds = time.monotonic() - start
        files.fsync_tree(partial)
        hashes = _hashes(partial)
        results = {file: content for file, content in hashes.items() if "/" not in file}
        record = {
            "digest": begun["digest"],
            "content": digest([begun["digest"], results]),
            "complete": True,
            "recipe": recipe,
            "made_of": made_of,
            "files": hashes,
            "provenance": self.provenance(),
            "seconds": round(seconds, 3),
        }
        _write_json(record_file, record)
        self._schedule.finish(name, seconds)
        print(f"{name}: done in {seconds:.1f} s", flush=True)

    def _warn_of_provenance(self, name: str, record: dict[str, Any], made_of: dict[str, str]) -> None:
        """One line, once for each difference, when other code, machine or bytes made a kept stage."""
        then, now = (
            made_by | {f"content of {name}": content for name, content in inputs.items()}
            for made_by, inputs in ((record["provenance"], record["made_of"]), (self.provenance(), made_of))
        )
        differences = _changes(then, now)
        if differences and differences not in self._warned:
            self._warned.add(differences)
            print(f"warning: kept stage {name!r} has another provenance: {differences}", file=sys.stderr)


class FinishedStages(Conductor):
    """Stands in for a conductor where nothing is run: every stage has to be finished, and is as it was left.

    It needs no lock, no model and no JAX. What a stage was made from is not compared with what is asked for:
    the caller asks with the config that the workdir holds.
    """

    def __init__(self, workdir: str | os.PathLike[str]):
        self.workdir = Path(workdir)

    def stage(self, name: str, *, work: Any = None, **_: Any) -> Stage:
        """As `finished_stage`."""
        return replace(finished_stage(self.workdir, name), work=work)

    def close(self) -> None:
        """Nothing is held."""


class PlannedStages(Conductor):
    """Stands in for a conductor where nothing is run or read: notes the graph that a study asks for.

    `stages` and their `recipes` are in the order in which they would run.
    """

    def __init__(self) -> None:
        self.workdir = Path("planned")
        self.stages: dict[str, Stage] = {}
        self.recipes: dict[str, dict[str, Any]] = {}

    def stage(
        self,
        name: str,
        *,
        fields: Mapping[str, Any],
        inputs: Sequence[Stage] = (),
        version: int,
        work: Any = None,
        **_: Any,
    ) -> Stage:
        """The stage as it would be, with the digest that it would have."""
        recipe = _recipe(name, fields, inputs, version)
        if self.recipes.setdefault(name, recipe) != recipe:
            raise ValueError(f"two stages are called {name}: {_differences(self.recipes[name], recipe)}")
        return self.stages.setdefault(name, Stage(name, digest(recipe), self.workdir / name, work=work))

    def close(self) -> None:
        """Nothing is held."""


def _recipe(name: str, fields: Mapping[str, Any], inputs: Sequence[Stage], version: int) -> dict[str, Any]:
    """A stage's recipe: what its digest is a hash of."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"not a stage name: {name!r}")
    return {
        "name": name,
        "fields": plain(fields),
        "inputs": {stage.name: stage.digest for stage in inputs},
        "version": version,
    }


def finished_stage(workdir: str | os.PathLike[str], name: str) -> Stage:
    """A finished stage of a workdir, for programs that only read; needs no lock.

    Raises UserError: there is no such workdir or finished stage, or it is damaged.
    """
    stages = Path(workdir) / "stages"
    if not (stages / name / "stage.json").is_file():
        finished = sorted(
            path.parent.name for path in stages.glob("*/stage.json") if _NAME.fullmatch(path.parent.name)
        )
        raise unknown(f"stage in {workdir}:", name, finished)
    return _checked(stages / name, read_record(stages / name))


def plain(value: Any) -> Any:
    """`value` as JSON values: ConfigDicts and mappings become dicts, tuples lists.

    Raises TypeError: something in it has no one JSON form; a config holds plain values only.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if hasattr(value, "items"):
        return {str(key): plain(item) for key, item in value.items()}
    raise TypeError(f"not a plain config value: {value!r} ({type(value).__name__})")


def canonical_json(value: Any) -> str:
    """The one JSON text of `value`, whatever the order of its keys."""
    return json.dumps(plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: Any) -> str:
    """32 hexadecimal digits that name `value`."""
    return hashlib.blake2b(canonical_json(value).encode(), digest_size=16).hexdigest()


def _write_json(path: Path, value: Any) -> None:
    text = json.dumps(value, indent=1, sort_keys=True, allow_nan=False)
    files.write_atomically(path, lambda file: file.write(text.encode()))


def read_record(path: Path) -> dict[str, Any]:
    """A finished stage's record: recipe, hashes of the files, provenance.

    Raises UserError: it is damaged, or of a version that recorded no hashes.
    """
    try:
        record = json.loads((path / "stage.json").read_text())
        if record["complete"] and {"digest", "recipe", "files", "provenance"} <= record.keys():
            if {"content", "made_of"} <= record.keys():
                return record
            made_by = record["provenance"].get("commit", "unknown")
            raise UserError(
                f"{path} was made by another version (commit {made_by}), which recorded no hashes of its "
                "files: check that version out, or give another --workdir"
            )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    raise UserError(f"{path}/stage.json is damaged or missing: delete {path} and give the same command")


def _is_complete(path: Path, expected: str, made_of: dict[str, str] | None) -> bool:
    """Whether the stage of this digest is finished there, of inputs of these contents if they are given.

    Of a partial directory: a killed run had finished everything but the rename.
    """
    try:
        record = json.loads((path / "stage.json").read_text())
    except FileNotFoundError:
        return False
    same = made_of is None or record.get("made_of") == made_of
    return record["digest"] == expected and record["complete"] and same


def _hashes(path: Path) -> dict[str, str]:
    """The hash of every file under `path` but the record itself."""
    found = sorted(file for file in path.rglob("*") if file.is_file() and file != path / "stage.json")
    return {str(file.relative_to(path)): files.content_hash(file) for file in found}


def _checked(path: Path, record: dict[str, Any]) -> Stage:
    """The finished stage. Raises UserError when one of its files is gone or is not what the record says."""
    found = _hashes(path)
    for name, content in record["files"].items():
        if found.get(name) != content:
            raise UserError(f"{path / name} is damaged or missing: delete {path} and give the same command")
    return Stage(path.name, record["digest"], path, record["content"])


def _differences(old: dict[str, Any], new: dict[str, Any]) -> str:
    """`field: old -> new` for every difference between two recipes, fields by their dotted config names."""
    return _changes(
        *(
            dotted(recipe["fields"])
            | {f"input {name}": digest for name, digest in recipe["inputs"].items()}
            | {"version": recipe["version"]}
            for recipe in (old, new)
        )
    )


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    absent = "(absent)"
    keys = [*old, *(key for key in new if key not in old)]
    pairs = [(key, old.get(key, absent), new.get(key, absent)) for key in keys]
    return ", ".join(f"{key}: {before} -> {after}" for key, before, after in pairs if before != after)
