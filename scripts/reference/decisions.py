"""Generates the list of decisions."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from reference.markdown import HEADER

_TEXT = """# Decisions

Decisions that are not obvious, with the alternatives and the reasons.

"""
_TITLE = re.compile(r"^# 0*(?P<number>\d+)\. (?P<title>.+)$", re.MULTILINE)


def decisions_page(paths: Iterable[Path]) -> str:
    """Return the page that lists these decisions by number."""
    lines = []
    for path in sorted(paths):
        title = _TITLE.search(path.read_text(encoding="utf-8"))
        if title is None:
            raise ValueError(f"{path}: the first heading is not `# NUMBER. TITLE`")
        lines.append(f"- [{title['number']}. {title['title']}]({path.name})\n")
    return HEADER + _TEXT + "".join(lines)
