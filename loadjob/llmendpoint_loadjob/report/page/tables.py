"""Tables of the page, with a caption, and a frame that scrolls on a narrow screen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from llmendpoint_common.contracts.loadrun import Percentiles
from llmendpoint_common.process.units import format_duration
from llmendpoint_loadjob.report.page.markup import Markup, tag

UNKNOWN = "unknown"
PERCENTILES = ("mean", "p50", "p90", "p95", "p99", "max")
#: Rows of a table that is printed only in part.
_LONG = 40


class Cell(NamedTuple):
    """The content of a cell with its class: `words`, `good`, `bad`, `warn` or nothing."""

    content: object
    kind: str | None = None


def table(caption: str, header: Sequence[str], rows: Iterable[Sequence[object]], words: Sequence[str] = ()) -> Markup:
    """Return a table. The first cell of each row is its header. `words` are the titles of columns with sentences."""
    body = [tag("tr", *_cells(row, header, words)) for row in rows]
    is_long = len(body) > _LONG
    titles = [tag("th", title, scope="col", class_="words" if title in words else None) for title in header]
    content = tag(
        "table",
        tag("caption", f"{caption} (a print shows the first {_LONG} of {len(body)} rows)" if is_long else caption),
        tag("thead", tag("tr", *titles)),
        tag("tbody", *body),
        class_="long" if is_long else None,
    )
    # A region that can be scrolled has to be reachable with the keyboard.
    return tag("div", content, class_="scroll", tabindex=0, role="region", aria_label=caption)


def _cells(row: Sequence[object], header: Sequence[str], words: Sequence[str]) -> Iterable[Markup]:
    for index, (title, cell) in enumerate(zip(header, row, strict=True)):
        content, kind = cell if isinstance(cell, Cell) else (cell, None)
        if index == 0:
            yield tag("th", content, scope="row")
        else:
            yield tag("td", content, class_=kind or ("words" if title in words else None))


def percentile_cells(values: Percentiles | None, names: Sequence[str] = PERCENTILES) -> list[str]:
    """Return percentiles as durations, or `unknown` if nothing was measured."""
    return [UNKNOWN if values is None else format_duration(getattr(values, name)) for name in names]
