from __future__ import annotations

from constellation.runtime.errors import UserError, unknown


def test_unknown_names_the_nearest_or_all():
    error = unknown("bank", "hrad", ["easy", "hard"])
    assert isinstance(error, UserError) and str(error) == "unknown bank 'hrad'; did you mean 'hard'?"
    assert str(unknown("bank", "zzz", ["easy", "hard"])) == "unknown bank 'zzz'; known: easy, hard"
    assert str(unknown("bank", "zzz", [])) == "unknown bank 'zzz'; known: none"
