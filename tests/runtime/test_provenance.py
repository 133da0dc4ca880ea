"""Commit, cores and instruction sets, against git, the scheduler and the files that a kernel writes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from constellation.runtime.provenance import commit, processor, provenance

ROOT = Path(__file__).parents[2]
XEON = """\
processor\t: 0
model name\t: Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz
flags\t\t: fpu sse2 smep avx512f sse4_2 fma f16c avx2 amx_tile avx

processor\t: 1
model name\t: another
"""
ARM = "processor\t: 0\nFeatures\t: fp asimd crc32 sve bf16\n"
CORES = len(os.sched_getaffinity(0))


def root(directory: Path, **files: str) -> Path:
    """A file system of these files, "__" for the slash."""
    for name, text in files.items():
        path = directory / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return directory


def test_names_commit_packages_and_device():
    head = subprocess.run(["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True)
    assert commit().rstrip("+") == (head.stdout.strip() if head.returncode == 0 else "unknown")
    found = provenance()
    assert found["commit"] == commit() and found["device"] and found["jax"] == sys.modules["jax"].__version__


@pytest.mark.parametrize(
    "cpuinfo, name, instructions",
    [
        (XEON, "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz", "amx_tile avx avx2 avx512f f16c fma sse4_2"),
        (ARM, os.uname().machine, "asimd bf16 sve"),
        ("", os.uname().machine, ""),
    ],
)
def test_instruction_sets_of_the_processor(tmp_path, cpuinfo, name, instructions):
    found = processor(root(tmp_path, proc__cpuinfo=cpuinfo))
    assert found == {"device": f"{CORES} x {name}", "instructions": instructions}


def test_counts_the_cores_that_the_process_may_be_scheduled_on():
    program = "from constellation.runtime.provenance import *; print(processor(Path('/'))['device'])"
    bound = ["taskset", "-c", str(min(os.sched_getaffinity(0))), sys.executable, "-c", program]
    found = subprocess.run(bound, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert found.startswith("1 x ")


@pytest.mark.parametrize(
    "group, limits, quota",
    [
        ("0::/\n", {"cpu.max": "50000 100000\n"}, ", quota 0.5"),
        ("0::/\n", {"cpu.max": "max 100000\n"}, ""),
        ("0::/\n", {"cpu.max": f"{CORES}00000 100000\n"}, ""),  # no less than the cores
        ("0::/a/b\n", {"a/cpu.max": "70000 100000", "a/b/cpu.max": "max 100000"}, ", quota 0.7"),
        ("0::/host/a\n", {"cpu.max": "50000 100000"}, ", quota 0.5"),  # a container that sees its own alone
        (
            "3:cpu,cpuacct:/a\n2:cpuset:/\n",
            {"cpu/a/cpu.cfs_quota_us": "25000", "cpu/a/cpu.cfs_period_us": "100000"},
            ", quota 0.25",
        ),
        ("3:cpu:/a\n", {"cpu/a/cpu.cfs_quota_us": "-1", "cpu/a/cpu.cfs_period_us": "100000"}, ""),
        ("3:memory:/a\n", {"cpu.max": "50000 100000"}, ""),
    ],
)
def test_quota_of_either_version_of_control_groups(tmp_path, group, limits, quota):
    files = {f"sys__fs__cgroup__{name}": text for name, text in limits.items()}
    found = processor(root(tmp_path, proc__self__cgroup=group, **files))
    assert found["device"] == f"{CORES} x {os.uname().machine}{quota}"
