"""The tables of a model directory's benchmarks: every row beside ours, and as a share of the matmul peak."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from constellation.domains.task import addressed_random
from constellation.domains.trapdoor.banks import TRAINING_ROLES
from constellation.domains.trapdoor.prior import draw_program
from constellation.domains.trapdoor.signature import ROLES
from constellation.domains.trapdoor.synthesis import synthesise
from constellation.nano.pretraining import SKELETONS
from third_party.benchmarks.harness import Measurement, Report, matmul_peak, measure_limits
from third_party.benchmarks.int4_product import ROWS, activation_dtype, int4_product_benchmark, table
from third_party.benchmarks.quantization import quantization_benchmark
from third_party.benchmarks.trajectories import trajectories_benchmark

TASKS = 2000  # accepted tasks timed


def run(
    model_dir: str, parts: Sequence[str], group: int, out: str | None, rows: Sequence[int] = ROWS
) -> None:
    """Measures the parts in turn and prints them.

    Args:
        group: inputs that share an int4 scale.
        out: file that the measurements are also written to, as JSON.
        rows: how many vectors an int4 product multiplies, one value after another.

    Raises:
        UserError: a model or a group that cannot be used, or a file that cannot be written.
    """
    report = Report(out)
    report.about["workload"] = {"model_dir": model_dir, "group": group}
    if "quantization" in parts:
        _quantization(report, model_dir, group)
    if "int4_product" in parts:
        _int4_product(report, model_dir, group, rows)
    if "trajectories" in parts:
        _trajectories(report, model_dir)
    if "tasks" in parts:
        _tasks(report)
    if "sampling" in parts or "update" in parts:
        _beside_theirs(report, model_dir, parts)


def _beside_theirs(report: Report, model_dir: str, parts: Sequence[str]) -> None:
    peak = matmul_peak()
    print(f"\nmatmul peak, float32: {peak / 1e9:.0f} GFLOP/s")

    def show(title: str, rows: Sequence[Measurement], head: str, speed: Callable[[Measurement], str]) -> None:
        print(f"\n{title}\n{'':44} {head} {'ours is':>9} {'of peak':>8}")
        for row in rows:
            report.add(row)
            ratio, share = rows[0].tokens_per_second / row.tokens_per_second, row.flops / row.seconds / peak
            print(f"{row.name:44} {speed(row)} {ratio:8.1f}x {share:8.1%}")

    if "sampling" in parts:
        from third_party.benchmarks.sampling import sampling_benchmark

        show(
            "sampling, 64 samples a task on prompts of the hard bank",
            sampling_benchmark(model_dir),
            f"{'new tokens/s':>13}",
            lambda row: f"{row.tokens_per_second:13,.0f}",
        )
    if "update" in parts:
        from third_party.benchmarks.update import update_benchmark

        for title, rows in update_benchmark(model_dir).items():
            show(
                title,
                rows,
                f"{'seconds':>9} {'answer tokens/s':>16}",
                lambda row: f"{row.seconds:9.3f} {row.tokens_per_second:16,.0f}",
            )


def _trajectories(report: Report, model_dir: str, trajectories: int = 8) -> None:
    print(f"\n{trajectories} trajectories as one program, and one alone: seconds")
    print(f"{'':16}{'one':>9}{'all':>9}{'each is':>10}")
    for row in trajectories_benchmark(model_dir, trajectories):
        report.add(row, part="trajectories")
        each = row.together / row.alone / trajectories
        print(f"{row.work:16}{row.alone:9.2f}{row.together:9.2f}{each:9.2f}x", flush=True)


def _quantization(report: Report, model_dir: str, group: int) -> None:
    # Only a model that was trained on these tasks has a distribution worth comparing.
    rows = quantization_benchmark(model_dir, group, with_kl=Path(model_dir, SKELETONS).exists())
    kinds = list(rows[0].errors)
    print(f"\nrelative error of the weights, groups of {group}; KL of the next program token, nats")
    print(f"{'':16}" + "".join(f"{kind:>10}" for kind in kinds) + f"{'KL':>10}")
    for row in rows:
        report.add(row, part="quantization")
        kl = "" if row.kl is None else f"{row.kl:10.5f}"
        print(f"{row.name:16}" + "".join(f"{row.errors[kind]:10.4f}" for kind in kinds) + kl)


def _int4_product(report: Report, model_dir: str, group: int, counts: Sequence[int]) -> None:
    dtype = activation_dtype()
    limits, rows = measure_limits(dtype), int4_product_benchmark(model_dir, group, counts)
    for row in rows:
        report.add(row, part="int4_product")
    print(f"\n{table(rows, group, dtype, limits)}")


def _tasks(report: Report) -> None:
    print("task synthesis, one core, programs of at most 4 atoms")
    for name, roles in (("any role", tuple(ROLES)), ("training roles", TRAINING_ROLES)):
        stream = synthesise(addressed_random("benchmark"), lambda rng: draw_program(rng, 4), roles=roles)
        begun = time.perf_counter()
        count = sum(1 for _ in itertools.islice(stream, TASKS))
        seconds = time.perf_counter() - begun
        report.add(Measurement("tasks", name, 0, count, seconds))
        print(f"{name:44} {count / seconds:8,.0f} accepted tasks/s")
