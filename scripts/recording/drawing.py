"""An asciicast as an animated SVG, which needs no script and loads nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

import pyte

from recording.terminal import Event

_CELL_WIDTH, _CELL_HEIGHT, _MARGIN = 8.4, 18, 14
#: Output within this time is one frame.
_FRAME_SECONDS = 0.12
_FONT = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
_BACKGROUND, _TEXT = "#0d1117", "#e6edf3"
#: Colours of xterm on a dark background.
_COLOURS = {
    "black": "#6e7681",
    "red": "#ff7b72",
    "green": "#7ee787",
    "brown": "#e3b341",
    "blue": "#79c0ff",
    "magenta": "#d2a8ff",
    "cyan": "#76e3ea",
    "white": "#e6edf3",
}


class Frame(NamedTuple):
    """What the screen shows from a time on: the drawing of each row, empty for an empty one."""

    seconds: float
    rows: tuple[str, ...]


def svg(events: Iterable[Event], columns: int, rows: int, description: str) -> str:
    """Return the animation, which repeats. Without animations (`prefers-reduced-motion`), it shows its last frame."""
    frames, end = _frames(events, columns, rows)
    width, height = columns * _CELL_WIDTH + 2 * _MARGIN, rows * _CELL_HEIGHT + 2 * _MARGIN
    different = dict.fromkeys(row for frame in frames for row in frame.rows if row)
    names = {row: f"r{number}" for number, row in enumerate(different)}
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
        f'width="{width:g}" height="{height:g}" role="img" aria-label="{escape(description, {chr(34): "&quot;"})}">',
        f"<title>{escape(description)}</title>",
        f"<style>{_style(frames, end, width)}</style>",
        f'<rect width="{width:g}" height="{height:g}" rx="8" fill="{_BACKGROUND}"/>',
        "<defs>",
        *(f'<text id="{name}">{row}</text>' for row, name in names.items()),
        "</defs>",
        f'<svg x="0" y="0" width="{width:g}" height="{height:g}"><g class="film">',
    ]
    for number, frame in enumerate(frames):
        uses = "".join(
            f'<use href="#{names[row]}" y="{_MARGIN + (at + 0.75) * _CELL_HEIGHT:g}"/>'
            for at, row in enumerate(frame.rows)
            if row
        )
        parts.append(f'<g transform="translate({number * width + _MARGIN:g} 0)">{uses}</g>')
    return "\n".join([*parts, "</g></svg>", "</svg>"]) + "\n"


def _frames(events: Iterable[Event], columns: int, rows: int) -> tuple[list[Frame], float]:
    """Return the frames in which something changes, and the end of the recording in seconds."""
    screen = pyte.Screen(columns, rows)
    stream = pyte.Stream(screen)
    frames: list[Frame] = []
    end = 0.0
    for number, group in groupby(events, lambda event: int(event.seconds / _FRAME_SECONDS)):
        for event in group:
            stream.feed(event.text)
            end = event.seconds
        drawn = tuple(_row([screen.buffer[at][column] for column in range(columns)]) for at in range(rows))
        if not frames or drawn != frames[-1].rows:
            frames.append(Frame(number * _FRAME_SECONDS, drawn))
    return frames, end


def _row(cells: Sequence[Any]) -> str:
    """Return the spans of a row."""
    spans, column = [], 0
    for (colour, is_bold), group in groupby(cells, _look):
        text = "".join(cell.data for cell in group)
        if text.strip():
            attributes = f' fill="{colour}"' if colour != _TEXT else ""
            attributes += ' font-weight="bold"' if is_bold else ""
            lead = len(text) - len(text.lstrip(" "))
            place = (column + lead) * _CELL_WIDTH
            spans.append(f'<tspan x="{place:g}"{attributes}>{escape(text.strip(" "))}</tspan>')
        column += len(text)
    return "".join(spans)


def _look(cell: Any) -> tuple[str, bool]:
    """Return the colour of a cell, and whether it is bold."""
    colour = cell.fg.removeprefix("bright")
    return _TEXT if colour == "default" else _COLOURS.get(colour, f"#{colour}"), cell.bold


def _style(frames: Sequence[Frame], end: float, width: float) -> str:
    steps = "".join(
        f"{frame.seconds / end * 100:.2f}%{{transform:translateX({-number * width:g}px)}}"
        for number, frame in enumerate(frames)
    )
    last = -(len(frames) - 1) * width
    return (
        f"text{{font:14px {_FONT};fill:{_TEXT};white-space:pre}}"
        f".film{{animation:film {end:.2f}s steps(1,end) infinite}}"
        f"@keyframes film{{{steps}100%{{transform:translateX({last:g}px)}}}}"
        f"@media (prefers-reduced-motion:reduce){{.film{{animation:none;transform:translateX({last:g}px)}}}}"
    )
