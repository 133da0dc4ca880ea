"""The library stands alone: only launch programs and tests know what is beside it."""

from __future__ import annotations

import re

from tests.tiny_study import ROOT

FOREIGN = re.compile(r"^\s*(?:import|from)\s+(?:third_party|torch|transformers\.models|peft)\b", re.MULTILINE)


def test_the_library_imports_neither_third_party_nor_torch() -> None:
    files = sorted((ROOT / "constellation").rglob("*.py"))
    assert len(files) > 50
    assert [str(path) for path in files if FOREIGN.search(path.read_text(encoding="utf-8"))] == []
    assert FOREIGN.search((ROOT / "third_party" / "model_reference.py").read_text(encoding="utf-8"))
