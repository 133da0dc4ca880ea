"""Does each finding hold whatever a round's settings? Sixteen studies of the nano model, on the hard bank.

    python -m launch.sweep --config=configs/nano_grid.py --workdir=runs/nano_grid

The grid was written down before it was run: tasks a round x passes over them x programs kept a task x the
rounds' learning rate, two values each, the default among them. Cells share what does not depend on them
(bank, base, warm start, critic). It ends with runs/nano_grid/sweep.html.

Expected, in about 40 minutes on two cores: every finding inconclusive in all sixteen cells; pass@8 changes by
-2.2 to +3.6 points and pass@64 by -6.5 to +1.5, both lowest after three passes at 1e-3 over 2,048 tasks.
`configs/nano_grid.py:quick` walks the same way over four cells, too small to find anything.
"""

from typing import Literal

from ml_collections import ConfigDict

from configs import nano


def get_config(mode: Literal["", "quick"] = "") -> ConfigDict:
    """The study that all cells vary, and the grid; mode "quick" shrinks both."""
    config = ConfigDict()
    config.study = nano.get_config(mode)
    config.study.tasks.banks = ("hard",)  # the findings are read there
    config.study.questions = ()
    config.study.evaluation.middle_samples = 32
    config.study.selection.split_seeds = (1234,)

    config.grid = ConfigDict()  # fields of the study, and the values that they take
    config.grid.star = ConfigDict()
    config.grid.star.tasks = (512, 2048)
    config.grid.star.passes = (1, 3)
    config.grid.star.keep = (1, 4)
    config.grid.star.learning_rate = (3e-4, 1e-3)

    if mode == "quick":
        config.grid.star.tasks = (48, 96)
        config.grid.star.passes = (1,)
        config.grid.star.keep = (1,)
    return config
