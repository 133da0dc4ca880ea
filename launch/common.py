"""What every launch program does the same way: flags, configs, one-line errors, the compilation cache.

A program reads

    BANK = flags.DEFINE_string("bank", "hard", "...")  # what is its own

    def main(config: ConfigDict, workdir: str) -> None:
        ...

    if __name__ == "__main__":
        common.run(main, config="configs/nano.py", workdir="runs/nano")

with its heavy imports inside `main`, so that `--help` answers at once. Its docstring heads the help.
"""

from __future__ import annotations

import ast
import ctypes
import logging
import math
import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args, get_type_hints

from absl import app, flags
from absl import logging as absl_logging
from ml_collections import ConfigDict

from constellation.runtime.errors import UserError, unknown
from constellation.runtime.nested import dotted

flags.disclaim_key_flags()  # the flags defined here are shown as the program's own

STUDY = "configs/nano.py"  # what programs take that name no config of their own
PEERS = "configs/peers_nano.py"  # likewise of a study of peers, whose config has a section of that name
USER_ERROR = 2
INTERRUPTED = 130

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -2, -4, -8  # malloc.h

_OVERRIDE = re.compile(r"--?config\.([^=]*)(?:=(.*))?", re.DOTALL)


def run(
    main: Callable[..., None],
    *,
    config: str | None = None,
    workdir: str | None = None,
    peers: bool = False,
) -> None:
    """Parses the flags, calls `main` and ends the process.

    Exit codes: 0; 2 with one line on stderr for a user's mistake; 130 when interrupted. Anything else that
    goes wrong is a defect and keeps its traceback.

    Args:
        main: called with `config` and `workdir` by keyword, as far as they are given here.
        config: default of `--config=<file>[:<mode>]`, whose fields `--config.<field>=<value>` override;
            empty where a program does without: `main` then gets None.
        workdir: default of `--workdir=<directory>`.
        peers: whether the program takes the config of a study of peers, too.
    """
    if config is not None:
        flags.DEFINE_string(
            "config", config, "config file, or <file>:<mode>; --config.<field>=<value> overrides"
        )
    if workdir is not None:
        flags.DEFINE_string("workdir", workdir, "directory of the results")
    arguments: dict[str, Any] = {}

    def parse_flags(argv: list[str]) -> list[str]:
        with _one_line_errors():
            overrides = [arg for arg in argv if config is not None and _OVERRIDE.fullmatch(arg)]
            _parse_flags([arg for arg in argv if arg not in overrides])
            if config is not None:
                file = flags.FLAGS.config
                if overrides and not file:
                    raise UserError(f"{overrides[0]} overrides a config: give --config=<file>, too")
                arguments["config"] = None
                if file:
                    arguments["config"] = load_config(file, overrides)
                    example = PEERS if peers and "peers" in arguments["config"] else config or STUDY
                    _check_fields(arguments["config"], file.partition(":")[0], example)
            if workdir is not None:
                arguments["workdir"] = flags.FLAGS.workdir
        return argv[:1]

    def call_main(_: list[str]) -> None:
        with _one_line_errors():
            main(**arguments)

    _use_compilation_cache()
    _compile_quickly()
    _keep_freed_memory()
    _expect_no_pytorch()
    app.run(call_main, flags_parser=parse_flags)


def _use_compilation_cache() -> None:
    """Keeps compiled programs across runs; by environment, so that JAX need not be imported for it.

    The directory is the user's, not the workdir's: what is compiled depends on shapes and code alone. The
    user's own setting wins.
    """
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(caches / "constellation" / "xla"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")


def _compile_quickly() -> None:
    """Lets XLA:CPU compile in half the time, to programs that are as fast (docs/benchmarks.md).

    Where there is an NVIDIA GPU nothing changes, because the level of optimisation would be the GPU's, too.
    """
    if not shutil.which("nvidia-smi"):
        add_xla_flags("--xla_cpu_use_fusion_emitters=false", "--xla_backend_optimization_level=1")


def add_xla_flags(*added: str) -> None:
    """Adds "--name=value" to the XLA_FLAGS, but for the names that they hold, which are the user's own.

    To be called before JAX is first imported, which reads them then.
    """
    given = os.environ.get("XLA_FLAGS", "").split()
    names = {flag.partition("=")[0] for flag in given}
    os.environ["XLA_FLAGS"] = " ".join(
        [*given, *(flag for flag in added if flag.partition("=")[0] not in names)]
    )


def _keep_freed_memory() -> None:
    """Lets glibc reuse freed memory instead of giving it back.

    XLA:CPU allocates its buffers anew at every call, and faulting their pages in again took up to four fifths
    of a training step.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return  # another C library
    for parameter, value in (
        (_M_MMAP_MAX, 0),
        (_M_TRIM_THRESHOLD, 2**31 - 1),
        (_M_TOP_PAD, 2**28),
        (_M_ARENA_MAX, 1),
    ):
        mallopt(parameter, value)


def _expect_no_pytorch() -> None:
    """Keeps transformers from warning, once imported, that there is no PyTorch: its models are not used."""
    transformers = logging.getLogger("transformers")
    transformers.addFilter(lambda record: not record.getMessage().startswith("PyTorch was not found"))


def hold_gpu_memory(budget_gib: float) -> None:
    """Holds JAX's allocator to a budget on every NVIDIA GPU; to be called before JAX is imported.

    The smallest of the GPUs decides the share. Nothing happens without a budget, without a GPU, or where the
    user has set a share.
    """
    if not budget_gib or "XLA_PYTHON_CLIENT_MEM_FRACTION" in os.environ:
        return
    try:
        query = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
        sizes = subprocess.run(query, capture_output=True, text=True, check=True).stdout.split()
        smallest = min(int(mebibytes) for mebibytes in sizes) / 1024
    except (OSError, subprocess.CalledProcessError, ValueError):
        return
    os.environ["XLA_PYTHON_CLIENT_MEM_FRACTION"] = f"{min(budget_gib / smallest, 0.95):.4f}"


def required(what: str, **values: str | None) -> list[Path]:
    """The paths that some flags give, all of which have to be given.

    Args:
        what: what the user is told to give if one is missing, as "both directories".
        values: the values of the flags, by name.

    Raises:
        UserError: one is missing.
    """
    given = [Path(value) for value in values.values() if value is not None]
    if len(given) < len(values):
        raise UserError(f"{' or '.join(f'--{name}' for name in values)} is missing: give {what}")
    return given


@contextmanager
def _one_line_errors() -> Iterator[None]:
    try:
        yield
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(USER_ERROR)
    except KeyboardInterrupt:
        print("interrupted; the same command continues", file=sys.stderr)
        sys.exit(INTERRUPTED)


def _parse_flags(argv: list[str]) -> None:
    """Fills absl's FLAGS. Raises UserError for what it does not know or cannot read."""
    if not {"-h", "-help", "--help"}.isdisjoint(argv[1:]):
        app.usage(shorthelp=True, writeto_stdout=True, exitcode=0)
    try:
        _, *rest = flags.FLAGS(argv)
    except flags.UnrecognizedFlagError as error:
        known = [f"--{flag.name}" for flag in flags.FLAGS.get_key_flags_for_module(argv[0])]
        raise unknown("flag", f"--{error.flagname}", known) from None
    except flags.Error as error:
        raise UserError(f"{error}; --help lists the flags") from None
    if flags.FLAGS["verbosity"].using_default_value:
        # Libraries' notes are not the program's output.
        flags.FLAGS.verbosity = absl_logging.WARNING  # type: ignore[assignment]
    if rest:
        raise UserError(f"unexpected argument {rest[0]!r}; flags are written --name=value")


def load_config(location: str, overrides: list[str] | None = None) -> ConfigDict:
    """The config of a file, or of one of its modes, with fields overridden; locked.

    Args:
        location: `<file>` or `<file>:<mode>`; the file defines `get_config()`, or, where it has modes,
            `get_config(mode: Literal["", "quick"] = "")`.
        overrides: each `--config.<field>=<value>`, the value in the type of the field's default.

    Raises:
        UserError: there is no such file, mode or field, or a value is of another type.
    """
    file, colon, mode = location.partition(":")
    path = Path(file)
    if not path.is_file():
        raise unknown("config file", file, map(str, sorted(path.parent.glob("*.py"))))
    try:
        get_config = runpy.run_path(file)["get_config"]
    except SyntaxError as error:
        raise UserError(f"{file} is not Python: line {error.lineno}: {error.msg}") from error
    except KeyError:
        raise UserError(f"{file} defines no get_config(); give a config file") from None
    modes = [mode for mode in get_args(get_type_hints(get_config).get("mode")) if mode]
    if colon and mode not in modes:
        known = f"its modes: {', '.join(modes)}" if modes else f"it has none; give it without ':{mode}'"
        raise UserError(f"unknown mode {mode!r} of {file}; {known}")
    config = get_config(mode) if colon else get_config()
    for override in overrides or ():
        _override(config, override)
    return config.lock()


def _check_fields(config: ConfigDict, location: str, example: str) -> None:
    """Refuses a config whose sections and their fields are not those of the program's own, `example`.

    Raises:
        UserError: a field is misspelt or missing, or the config is one for another program.
    """
    if not Path(example).is_file():
        return
    wanted, found = _two_levels(load_config(example)), _two_levels(config)
    for field in wanted:
        if field not in found:
            raise UserError(
                f"{location} lacks the field {field!r}: this program takes a config like {example}"
            )
    for field in found:
        if field not in wanted:
            raise unknown(f"field of {location}:", field, wanted)


def _two_levels(config: ConfigDict) -> list[str]:
    """The names of sections and of their fields; which axes a grid has is free."""
    names = list(config)
    for name, value in config.items():
        if isinstance(value, ConfigDict) and name != "grid":
            names += [f"{name}.{field}" for field in value]
    return names


def _override(config: ConfigDict, argument: str) -> None:
    """Sets the field that one `--config.<field>=<value>` names."""
    match = _OVERRIDE.fullmatch(argument)
    assert match is not None
    field, text = match.groups()
    if text is None:
        raise UserError(f"--config.{field} has no value; write --config.{field}=<value>")
    *parents, name = field.split(".")
    section: Any = config
    for parent in parents:
        section = section.get(parent) if isinstance(section, ConfigDict) else None
    if not isinstance(section, ConfigDict) or name not in section:
        raise unknown("config field", field, dotted(config))
    default = section[name]
    if isinstance(default, ConfigDict):
        raise UserError(
            f"config field {field!r} is a section; set one of {', '.join(dotted({field: default}))}"
        )
    try:
        section[name] = _parse_value(text, default)
    except (ValueError, KeyError, SyntaxError):
        raise UserError(f"--config.{field}={text}: expected a value like {default!r}") from None


def _parse_value(text: str, default: Any) -> Any:
    """`text` in the type of `default`. Raises ValueError, KeyError or SyntaxError when it has none in it."""
    if isinstance(default, bool):
        return {"true": True, "false": False}[text.lower()]
    if isinstance(default, float) and not math.isfinite(float(text)):
        raise ValueError(text)
    if isinstance(default, (int, float, str)):
        return type(default)(text)
    if isinstance(default, (tuple, list)):
        items = [item.strip(" '\"") for item in text.strip("()[] ").split(",")]
        return type(default)(_parse_value(item, default[0] if default else "") for item in items if item)
    return ast.literal_eval(text)
