"""How the sweep's program ends."""

from __future__ import annotations

import pytest

from constellation.evaluation.sweep import Cell
from constellation.experiments import sweep
from launch.common import load_config
from launch.sweep import main
from tests.tiny_study import ROOT


@pytest.mark.parametrize("failure", [None, "UserError: no memory"])
def test_exits_with_1_where_a_cell_failed(failure, monkeypatch, capsys):
    cells = [Cell("good", {}, {}, {}, None), Cell("other", {}, None, {}, failure)]
    monkeypatch.setattr(sweep, "run", lambda config, workdir: cells)
    config = load_config(str(ROOT / "configs/nano_grid.py"))
    if failure is None:
        main(config, "runs/x")
    else:
        with pytest.raises(SystemExit) as ended:
            main(config, "runs/x")
        assert ended.value.code == 1
    out, err = capsys.readouterr()
    assert out == "sweep: runs/x/sweep.html\n" and err == ("failed: other\n" if failure else "")
