"""The tables of the benchmark of a config's model, and the targets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from third_party.benchmarks.harness import Limits, Measurement
from third_party.benchmarks.workload import Workload

OURS, GENERATE, FOUR_BITS, PEFT = "ours", "transformers generate", "transformers generate, 4-bit", "peft"
GENERATE_RATIO, PEFT_RATIO, BANDWIDTH_SHARE, PEAK_SHARE = 5.0, 1.5, 0.5, 0.4
TARGET_SAMPLES = 64
CARD_BYTES = 24e9


def heading(work: Workload, limits: Limits) -> str:
    """What is measured, and the limits."""
    sizes, model = work.sizes, work.config
    weights = work.directory or "random weights"
    step = f"{sizes.rows} sequences of {work.prompt_tokens + sizes.answer_tokens} tokens"
    remat = "layers recomputed" if work.remat else "nothing recomputed"
    return "\n".join(
        (
            f"{model.num_hidden_layers} layers of {model.hidden_size}, {weights}: "
            f"{work.quantization or 'dense'}, {work.dtype}",
            f"{limits.device} ({limits.platform}): {limits.bandwidth / 1e9:,.1f} GB/s; "
            f"XLA's matmul peak, {work.dtype}: {limits.peak / 1e9:,.0f} GFLOP/s",
            f"sampling: {sizes.tasks} prompts of {sizes.shared_tokens} shared and {sizes.own_tokens} own "
            f"tokens (the references: one of them), answers of {sizes.answer_tokens} tokens, "
            f"{', '.join(map(str, sizes.samples))} samples side by side; the fastest of {sizes.repeats}",
            f"update: {step}, {sizes.micro_batch} at a time, LoRA of rank {work.rank}, {remat}",
        )
    )


def tables(rows: Sequence[Measurement], limits: Limits) -> str:
    """A table each of prefill, decode and update, as far as there are rows, and one of memory."""
    texts = []
    for part, tokens in (
        ("prefill", "prompt tokens/s"),
        ("decode", "new tokens/s"),
        ("update", "tokens/s"),
    ):
        found = [row for row in rows if row.part == part]
        if found:
            shares = ("of peak", "recomputed too") if part == "update" else ("of bandwidth", "of peak")
            head = f"{part:36}{'samples':>9}{tokens:>17}{'ours is':>9}{shares[0]:>14}{shares[1]:>16}"
            texts.append("\n".join(["", head, *(_line(row, rows, limits) for row in found)]))
    if rows:
        texts.append("\n".join(["", *_memory(rows)]))
    return "\n".join(texts)


def by_itself(row: Measurement) -> str:
    """One measurement as a line that is printed when it is made; `tables` compares all at the end."""
    what = f"  {row.part}, {row.samples} samples" if row.samples else f"  {row.part}"
    return f"{what}: " + (f"failed: {row.failed}" if row.failed else f"{row.tokens_per_second:,.1f} tokens/s")


def _line(row: Measurement, rows: Sequence[Measurement], limits: Limits) -> str:
    start = f"{row.name:36}{row.samples or '':>9}"
    if row.failed:
        return f"{start}  failed: {row.failed}"
    ratio = _ratio(row, rows)
    operations = row.flops / row.seconds / limits.peak
    if row.part == "update":
        first, second = operations, _share_of_peak(row, limits)
    else:
        first, second = row.moved / row.seconds / limits.bandwidth, operations
    beside = "" if ratio is None else f"{ratio:.2f}x"
    return f"{start}{row.tokens_per_second:17,.1f}{beside:>9}{first:14.1%}{second:16.1%}"


def _share_of_peak(row: Measurement, limits: Limits) -> float:
    """The share of the matmul peak, what is computed again counted."""
    return (row.flops + row.recomputed) / row.seconds / limits.peak


def _ratio(row: Measurement, rows: Sequence[Measurement]) -> float | None:
    """How many times as fast as this row ours is."""
    ours = _find(rows, row.part, OURS, row.samples)
    return ours.tokens_per_second / row.tokens_per_second if ours else None


def _find(rows: Sequence[Measurement], part: str, name: str, samples: int) -> Measurement | None:
    found = [row for row in rows if (row.part, row.name, row.samples) == (part, name, samples)]
    return found[0] if found and not found[0].failed else None


def _memory(rows: Sequence[Measurement]) -> list[str]:
    """The most that each process had held, in GiB, when it had come so far."""
    columns = dict.fromkeys(
        (row.part, row.samples) for row in rows if row.part != "prefill" and not row.failed
    )
    titles = [f"{part} {samples or ''}".strip() for part, samples in columns]
    lines = [f"{'peak memory, GiB':36}" + "".join(f"{title:>12}" for title in titles)]
    for name in dict.fromkeys(row.name for row in rows if not row.failed):
        cells = [_find(rows, part, name, samples) for part, samples in columns]
        shown = ["" if cell is None else f"{cell.peak_memory / 2**30:.2f}" for cell in cells]
        lines.append(f"{name:36}" + "".join(f"{text:>12}" for text in shown))
    return lines


def targets(rows: Sequence[Measurement], limits: Limits, full_size: bool) -> str:
    """A line for each target: met, not met, or why it cannot be said."""
    decode, update = _find(rows, "decode", OURS, TARGET_SAMPLES), _find(rows, "update", OURS, 0)
    generate, peft = _find(rows, "decode", GENERATE, TARGET_SAMPLES), _find(rows, "update", PEFT, 0)
    own = [row.peak_memory for row in rows if row.name == OURS and not row.failed]
    shown: list[tuple[str, float | None, float]] = [
        (f"decode of 64 samples, times {GENERATE}", generate and _ratio(generate, rows), GENERATE_RATIO),
        (
            "decode of 64 samples, of the bandwidth",
            decode and decode.moved / decode.seconds / limits.bandwidth,
            BANDWIDTH_SHARE,
        ),
        (f"update, times {PEFT}", peft and _ratio(peft, rows), PEFT_RATIO),
        (
            "update, of the matmul peak, recomputation counted",
            update and _share_of_peak(update, limits),
            PEAK_SHARE,
        ),
    ]
    lines = ["", "targets"]
    for text, value, least in shown:
        lines.append(f"{text:52} at least {least:4}: {_verdict(value, least, limits, full_size)}")
    within = max(own) / 1e9 if own else None
    verdict = _verdict(within and -within, -CARD_BYTES / 1e9, limits, full_size)
    lines.append(f"{'ours, peak memory in GB':52} at most {CARD_BYTES / 1e9:5.0f}: {verdict}")
    return "\n".join(lines)


def _verdict(value: float | None, least: float, limits: Limits, full_size: bool) -> str:
    if limits.platform != "gpu":
        return "not measurable on this device: it has no GPU"
    if not full_size:
        return "not measurable with some of the layers"
    if value is None or not np.isfinite(value):
        return "not measured"
    return f"{'met' if value >= least else 'not met'} ({abs(value):.2f})"
