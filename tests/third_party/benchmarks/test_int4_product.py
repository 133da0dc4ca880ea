"""The table of the int4 products, at a tiny model's shapes."""

from __future__ import annotations

import json
from pathlib import Path

import jax.numpy as jnp
import pytest

from constellation.runtime.errors import UserError
from tests.model.tiny import CONFIG
from third_party.benchmarks import report
from third_party.benchmarks.harness import Limits, matmul_peak, memory_bandwidth
from third_party.benchmarks.int4_product import ProductRow, int4_product_benchmark, table


@pytest.fixture
def config_only(tmp_path: Path) -> str:
    """A directory that holds no weights."""
    (tmp_path / "config.json").write_text(json.dumps(CONFIG.to_fields() | {"model_type": "qwen3"}))
    return str(tmp_path)


def test_every_shape_once_and_every_way(config_only: str) -> None:
    table = int4_product_benchmark(config_only, 16, rows=(5,), repeats=1)
    assert [(row.projections, row.out_features, row.in_features) for row in table] == [
        (names, *shape)
        for names, shape in {
            "q_proj": (64, 48),
            "k_proj, v_proj": (32, 48),
            "o_proj": (48, 64),
            "gate_proj, up_proj": (80, 48),
            "down_proj": (48, 80),
        }.items()
    ]
    for row in table:
        assert row.seconds.keys() == {"dequantised", "groupwise", "per_channel"}  # no GPU, no kernel
        assert all(seconds > 0 for seconds in row.seconds.values())
        assert row.chosen == "dequantised" and row.fastest in ("dequantised", "groupwise")
    assert table[0].operations == 2 * 5 * 64 * 48
    assert table[0].bytes == 64 * 48 / 2 + 4 * (64 * 3 + 5 * 48 + 5 * 64)  # float32 beside the packed weight


def test_a_group_that_does_not_divide(config_only: str) -> None:
    with pytest.raises(UserError, match="--group=48"):
        int4_product_benchmark(config_only, 48)


def test_the_limits_are_positive() -> None:
    assert matmul_peak(size=64) > 0 and memory_bandwidth(size=2**16) > 0


def test_the_table() -> None:
    seconds = {"dequantised": 2e-6, "groupwise": 1e-6}
    row = ProductRow("q_proj", 64, 48, 8, seconds, 3e6, 5e6, "dequantised", "groupwise")
    text = table([row], 16, jnp.dtype(jnp.float32), Limits("cpu", "", bandwidth=1e9, peak=1e9))
    assert "pallas: not timed" in text
    cells = "q_proj 64 x 48 8 2.0 1.0 - - 3,000.0 5,000.0 dequantised groupwise"
    assert text.splitlines()[-1].split() == cells.split()


def test_the_part_prints_its_table_and_keeps_its_rows(config_only: str, tmp_path: Path, capsys) -> None:
    report.run(config_only, ["int4_product"], 16, str(tmp_path / "rows.json"), rows=(1, 5))
    assert capsys.readouterr().out.startswith("\nint4 products, groups of 16, float32 on cpu: microseconds")
    written = json.loads((tmp_path / "rows.json").read_text())
    assert written["workload"] == {"model_dir": config_only, "group": 16}
    assert {row["part"] for row in written["rows"]} == {"int4_product"}
    assert len(written["rows"]) == 5 * 2 and written["rows"][0]["projections"] == "q_proj"
