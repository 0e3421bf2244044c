"""Golden renders of whole load tests (`support/documents/golden.py`)."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.documents.golden import assert_golden, read_spec
from support.in_memory.loadtests import children

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("name", ["minimal", "everything", "several-pods", "trace"])
def test_a_load_test_renders_as_before(name: str) -> None:
    assert_golden(GOLDEN, name, list(children(read_spec(GOLDEN, name)).values()))
