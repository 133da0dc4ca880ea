"""What all tests share: compiled programs, also with the processes they start, and small banks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import pytest

from constellation.domains.task import Task
from constellation.domains.trapdoor import DOMAIN as trapdoor

# The tests compile for minutes what runs for seconds, so XLA is to compile quickly, not well: LLVM without
# optimisation and in one piece, and fusions by the older emitters. It takes a third of the time. Where
# XLA_FLAGS are set they are kept: `XLA_FLAGS= make test` tests what a user's programs compile to. A worker
# has one thread of torch, as there are as many workers as cores.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    " --xla_cpu_parallel_codegen_split_count=1 --xla_cpu_use_fusion_emitters=false",
)
os.environ.setdefault("OMP_NUM_THREADS", "1")


# The files that take a minute or more, longest first: begun last, one of them would keep a worker alone.
LONG = (
    "experiments/test_star.py",
    "experiments/test_kills.py",
    "test_generator.py",
    "selftraining/test_update.py",
    "model/test_mesh.py",
    "third_party/comparison/test_study.py",
    "launch/test_processes.py",
    "experiments/test_oracle.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first; `make test` keeps this order."""
    place = {Path(__file__).parent / name: number for number, name in enumerate(LONG)}
    assert all(path.is_file() for path in place)
    items.sort(key=lambda item: place.get(item.path, len(LONG)))


@pytest.fixture(scope="session", autouse=True)
def compilation_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The variables that make a process use this cache; those started by a test inherit them."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    now = dict(zip(names, (str(shared / "xla"), 0.0), strict=True))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in now.items():
            jax.config.update(name, value)
            patch.setenv(name.upper(), str(value))
        yield {name.upper(): str(value) for name, value in now.items()}
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.fixture(scope="session")
def virtual_devices(compilation_cache: dict[str, str]) -> Callable[[int], dict[str, str]]:
    """virtual_devices(count): the environment of a process that sees so many devices on a CPU."""

    def environment(count: int) -> dict[str, str]:
        flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={count}"
        return {"PATH": "", "XLA_FLAGS": flags} | compilation_cache

    return environment


@pytest.fixture(scope="session")
def hard() -> list[Task]:
    return trapdoor.make_bank("hard", 48)


@pytest.fixture(scope="session")
def banks(hard: list[Task]) -> dict[str, list[Task]]:
    others = {"easy": 16, "withheld": 6, "tuning_easy": 8, "tuning_hard": 8}
    return {"hard": hard} | {name: trapdoor.make_bank(name, size) for name, size in others.items()}
