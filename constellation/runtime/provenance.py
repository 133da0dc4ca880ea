"""What made a result besides its recipe: the commit, the packages' versions, and the device.

XLA:CPU compiles for the processor's instruction sets and divides sums among the cores, and what it trains
differs in the last digits when either does.
"""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import re
import subprocess
from pathlib import Path

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "aqtp", "transformers", "numpy", "scipy")
# Of x86's flags and of ARM's, those by which compiled products and sums differ.
_INSTRUCTION_SETS = re.compile(r"sse4_\d|f16c|fma|(avx|amx)\w*|asimd\w*|sve\w*|sme\d?|bf16|i8mm")


@functools.cache
def provenance() -> dict[str, str]:
    """Names and values: commit, python, device, instructions where a CPU computes, and every package."""
    import jax

    versions = {package: importlib.metadata.version(package) for package in _PACKAGES}
    device = jax.devices()[0]
    kind = {"device": device.device_kind} if device.platform != "cpu" else processor(Path("/"))
    return {"commit": commit(), "python": platform.python_version(), **kind, **versions}


def commit() -> str:
    """The checkout's commit, with '+' when tracked files differ from it; 'unknown' outside a checkout."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        changed = subprocess.run([*git, "diff", "--quiet", "HEAD"], capture_output=True).returncode != 0
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + ("+" if changed else "")


def processor(root: Path) -> dict[str, str]:
    """`device`, "<cores> x <name>", and `instructions`, the instruction sets, as this process may use them.

    Of the cores, those that it may be scheduled on and, where a control group allows less time, its quota.
    `root` is that of the file system with /proc/cpuinfo and the control groups.
    """
    described = _text(root / "proc/cpuinfo")
    name = re.search(r"^model name\s*: (.*)$", described, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*: (.*)$", described, re.MULTILINE)
    sets = {flag for flag in (flags.group(1).split() if flags else ()) if _INSTRUCTION_SETS.fullmatch(flag)}
    cores, quota = _cores(), _quota(root)
    limit = f", quota {quota:g}" if quota is not None and quota < cores else ""
    return {
        "device": f"{cores} x {name.group(1) if name else platform.machine()}{limit}",
        "instructions": " ".join(sorted(sets)),
    }


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # macOS binds no process to cores


def _quota(root: Path) -> float | None:
    """The cores whose time the process's control groups allow it, by either version of them; None for all."""
    quotas = []
    for line in _text(root / "proc/self/cgroup").splitlines():
        number, controllers, group = line.split(":", 2)
        if number == "0":
            mounted, files = root / "sys/fs/cgroup", ["cpu.max"]
        elif "cpu" in controllers.split(","):
            mounted, files = root / "sys/fs/cgroup/cpu", ["cpu.cfs_quota_us", "cpu.cfs_period_us"]
        else:
            continue
        # A parent's limit holds below it; in a container the group's own path may not be mounted.
        own = mounted / group.lstrip("/")
        for directory in (own, *own.parents):
            limit = " ".join(_text(directory / file) for file in files).split()
            if len(limit) == 2 and limit[0].isdecimal():
                quotas.append(int(limit[0]) / int(limit[1]))
            if directory == mounted:
                break
    return min(quotas, default=None)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
