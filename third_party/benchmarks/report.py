"""The benchmark's tables: every row beside ours, and as a share of the matmul peak of the same run."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from pathlib import Path

TASKS = 2000  # accepted tasks timed


def run(model_dir: str, parts: Sequence[str], group: int) -> None:
    """Measures the parts in turn and prints them; `group` is of the quantisation."""
    if "quantization" in parts:
        _print_quantization(model_dir, group)
    if "int4_product" in parts:
        _print_int4_product(model_dir, group)
    if "trajectories" in parts:
        _print_trajectories(model_dir)
    if "tasks" in parts:
        _print_tasks()
    if "sampling" in parts or "update" in parts:
        from third_party.benchmarks.limits import matmul_peak

        peak = matmul_peak()
        print(f"\nmatmul peak, float32: {peak / 1e9:.0f} GFLOP/s")
    if "sampling" in parts:
        from third_party.benchmarks.sampling import sampling_benchmark

        print("\nsampling, 64 samples a task on prompts of the hard bank")
        print(f"{'':44} {'new tokens/s':>13} {'ours is':>9} {'of peak':>8}")
        rows = sampling_benchmark(model_dir)
        for row in rows:
            ratio = rows[0].tokens_per_second / row.tokens_per_second
            share = row.flops / row.seconds / peak
            print(f"{row.name:44} {row.tokens_per_second:13,.0f} {ratio:8.1f}x {share:8.1%}")
    if "update" in parts:
        from third_party.benchmarks.update import update_benchmark

        for title, updates in update_benchmark(model_dir).items():
            print(f"\n{title}")
            print(f"{'':44} {'seconds':>9} {'answer tokens/s':>16} {'ours is':>9} {'of peak':>8}")
            for update in updates:
                ratio = updates[0].answer_tokens_per_second / update.answer_tokens_per_second
                share = update.flops / update.seconds / peak
                speed = f"{update.seconds:9.3f} {update.answer_tokens_per_second:16,.0f}"
                print(f"{update.name:44} {speed} {ratio:8.1f}x {share:8.1%}")


def _print_trajectories(model_dir: str, trajectories: int = 8) -> None:
    from third_party.benchmarks.trajectories import trajectories_benchmark

    print(f"\n{trajectories} trajectories as one program, and one alone: seconds")
    print(f"{'':16}{'one':>9}{'all':>9}{'each is':>10}")
    for row in trajectories_benchmark(model_dir, trajectories):
        each = row.together / row.alone / trajectories
        print(f"{row.work:16}{row.alone:9.2f}{row.together:9.2f}{each:9.2f}x", flush=True)


def _print_quantization(model_dir: str, group: int) -> None:
    from third_party.benchmarks.quantization import quantization_benchmark

    # Only a model that was trained on these tasks has a distribution worth comparing.
    rows = quantization_benchmark(
        model_dir, group, with_kl=Path(model_dir, "training_skeletons.txt").exists()
    )
    kinds = list(rows[0].errors)
    print(f"\nrelative error of the weights, groups of {group}; KL of the next program token, nats")
    print(f"{'':16}" + "".join(f"{kind:>10}" for kind in kinds) + f"{'KL':>10}")
    for row in rows:
        kl = "" if row.kl is None else f"{row.kl:10.5f}"
        print(f"{row.name:16}" + "".join(f"{row.errors[kind]:10.4f}" for kind in kinds) + kl)


def _print_int4_product(model_dir: str, group: int) -> None:
    import jax

    from third_party.benchmarks.int4_product import WAYS, activation_dtype, int4_product_benchmark
    from third_party.benchmarks.limits import matmul_peak, memory_bandwidth

    dtype, platform = activation_dtype(), jax.default_backend()
    bandwidth, peak = memory_bandwidth(), matmul_peak(dtype)
    rows = int4_product_benchmark(model_dir, group)
    names = [way.__name__ for way in WAYS]
    print(f"\nint4 products, groups of {group}, {dtype.name} on {platform}: microseconds of one")
    print(f"memory: packed weight, scales, x and y at {bandwidth / 1e9:.0f} GB/s")
    print(f"operations: at the matmul peak, {peak / 1e9:.0f} GFLOP/s")
    print("per_channel: with one scale an output, and a choice only for weights that are stored so")
    if platform != "gpu":
        print("pallas: not timed, as it compiles for a GPU only; interpreted, it shows nothing of its speed")
    columns = "".join(f"{name:>12}" for name in [*names, "memory", "operations"])
    print(f"{'':20}{'out x in':>13}{'rows':>6}{columns}  {'chosen':12}fastest")
    for row in rows:
        times = [*(row.seconds.get(name) for name in names), row.bytes / bandwidth, row.operations / peak]
        cells = "".join(f"{'-' if time is None else format(1e6 * time, ',.1f'):>12}" for time in times)
        shape = f"{row.out_features} x {row.in_features}"
        print(f"{row.projections:20}{shape:>13}{row.rows:6}{cells}  {row.chosen:12}{row.fastest}")


def _print_tasks() -> None:
    from constellation.domains.task import addressed_random
    from constellation.domains.trapdoor.banks import TRAINING_ROLES
    from constellation.domains.trapdoor.prior import draw_program
    from constellation.domains.trapdoor.signature import ROLES
    from constellation.domains.trapdoor.synthesis import synthesise

    print("task synthesis, one core, programs of at most 4 atoms")
    for name, roles in (("any role", tuple(ROLES)), ("training roles", TRAINING_ROLES)):
        stream = synthesise(addressed_random("benchmark"), lambda rng: draw_program(rng, 4), roles=roles)
        start = time.perf_counter()
        count = sum(1 for _ in itertools.islice(stream, TASKS))
        print(f"{name:44} {count / (time.perf_counter() - start):8,.0f} accepted tasks/s")
