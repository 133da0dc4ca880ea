"""How the sweep's program ends."""

from __future__ import annotations

import pytest

from constellation.evaluation.sweep import Cell
from launch.sweep import finish


@pytest.mark.parametrize("failure", [None, "UserError: no memory"])
def test_exits_with_1_where_a_cell_failed(failure, capsys):
    cells = [Cell("good", {}, {}, {}, None), Cell("other", {}, None, {}, failure)]
    if failure is None:
        finish(cells, "runs/x")
    else:
        with pytest.raises(SystemExit) as ended:
            finish(cells, "runs/x")
        assert ended.value.code == 1
    out, err = capsys.readouterr()
    assert out == "sweep: runs/x/sweep.html\n" and err == ("failed: other\n" if failure else "")
