"""Charts as SVG. Each is drawn twice, for wide and for narrow screens, so that its text is never scaled.

Colours are classes of the style sheet, which has a light and a dark theme. Series also differ by their dashes, so that
they can be told apart without colours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from llmendpoint_loadjob.report.page.markup import Markup, join, tag
from llmendpoint_loadjob.report.page.scales import Scale

WIDTHS = (("wide", 720), ("narrow", 344))
HEIGHT = 240
#: Width of a letter of a label, rounded up. DejaVu Sans, which is wider than other fonts, has digits of 7.6 pixels.
_LETTER = 8
_TOP, _BOTTOM, _RIGHT = 14, 38, 16

Point = tuple[float, float]


class Frame(NamedTuple):
    """The area of a chart in which values are drawn."""

    width: int
    height: int
    left: int = 52

    @property
    def right(self) -> int:
        """Position of the right edge."""
        return self.width - _RIGHT

    @property
    def top(self) -> int:
        """Position of the upper edge."""
        return _TOP

    @property
    def bottom(self) -> int:
        """Position of the lower edge."""
        return self.height - _BOTTOM

    @property
    def is_narrow(self) -> bool:
        """Whether the chart is for a narrow screen."""
        return self.width < 500


class Axis(NamedTuple):
    """A scale with its title and the format of its labels."""

    scale: Scale
    title: str
    label: Callable[[float], str]


class Series(NamedTuple):
    """A line. Its number picks colour and dashes, and a point with None interrupts it."""

    name: str
    points: Sequence[tuple[float, float | None]]
    number: int
    is_stepped: bool = False


class Legend(NamedTuple):
    """An entry of the legend: the name, and the class of its sample."""

    name: str
    kind: str


def figure(identity: str, title: str, description: str, legend: Sequence[Legend],
           draw: Callable[[Frame], Markup], height: int = HEIGHT) -> Markup:  # fmt: skip
    """Return a figure with the chart that `draw` returns for a frame. `description` is for those who cannot see it."""
    drawings = [
        tag(
            "svg",
            tag("title", title, id=f"{identity}-{kind}-title"),
            tag("desc", description, id=f"{identity}-{kind}-desc"),
            draw(Frame(width, height)),
            viewBox=f"0 0 {width} {height}",
            width=width,
            height=height,
            class_=f"chart {kind}",
            role="img",
            aria_labelledby=f"{identity}-{kind}-title {identity}-{kind}-desc",
        )
        for kind, width in WIDTHS
    ]
    entries = [tag("li", _sample(entry.kind), entry.name) for entry in legend]
    caption = tag("figcaption", tag("span", title, class_="title"), tag("ul", *entries, class_="legend"))
    return tag("figure", caption, *drawings)


def _sample(kind: str) -> Markup:
    if kind.startswith("line"):
        drawn = tag("line", x1=0, y1=6, x2=24, y2=6, class_=f"series {kind.removeprefix('line ')}")
    elif kind.startswith("bar"):
        drawn = tag("rect", x=4, y=1, width=16, height=10, class_=kind.removeprefix("bar "))
    else:
        drawn = tag("path", d="M12 1 L18 11 L6 11 Z", class_=kind)
    return tag("svg", drawn, viewBox="0 0 24 12", width=24, height=12, aria_hidden="true", class_="sample")


def axes(frame: Frame, x: Axis, y: Axis) -> Markup:
    """Return grid lines, labels and titles of both axes."""
    parts: list[Markup] = []
    for value in y.scale.ticks(4):
        at = y.scale(value)
        parts.append(tag("line", x1=frame.left, x2=frame.right, y1=_n(at), y2=_n(at), class_="grid"))
        parts.append(tag("text", y.label(value), x=frame.left - 6, y=_n(at + 4), class_="label end"))
    for value in x.scale.ticks(4 if frame.is_narrow else 8):
        at = x.scale(value)
        parts.append(tag("line", x1=_n(at), x2=_n(at), y1=frame.bottom, y2=frame.bottom + 4, class_="axis"))
        parts.append(_label_below(frame, at, x.label(value)))
    parts.append(tag("line", x1=frame.left, x2=frame.right, y1=frame.bottom, y2=frame.bottom, class_="axis"))
    middle = (frame.left + frame.right) / 2
    parts.append(tag("text", x.title, x=_n(middle), y=frame.height - 4, class_="label middle"))
    return join(parts)


def _label_below(frame: Frame, at: float, text: str) -> Markup:
    """Return the label of a value of the horizontal axis. One that would not fit at the right edge ends there."""
    is_outside = at + len(text) * _LETTER / 2 > frame.width
    kind = "label end" if is_outside else "label middle"
    return tag("text", text, x=_n(frame.width if is_outside else at), y=frame.bottom + 17, class_=kind)


def line(series: Series, x: Scale, y: Scale) -> Markup:
    """Return a line through the points of a series. A single point is a dot."""
    parts = []
    for run in _runs(series.points):
        places = [(x(at), y(value)) for at, value in run]
        if series.is_stepped:
            places = list(_stepped(places))
        if len(places) == 1:
            (left, top), *_ = places
            parts.append(tag("circle", cx=_n(left), cy=_n(top), r=2.5, class_=f"dot s{series.number}"))
        else:
            path = " ".join(f"{_n(left)},{_n(top)}" for left, top in places)
            parts.append(tag("polyline", points=path, class_=f"series s{series.number}"))
    return join(parts)


def _runs(points: Sequence[tuple[float, float | None]]) -> Iterable[list[Point]]:
    run: list[Point] = []
    for at, value in points:
        if value is None:
            if run:
                yield run
            run = []
        else:
            run.append((at, value))
    if run:
        yield run


def _stepped(places: Sequence[Point]) -> Iterable[Point]:
    previous = None
    for left, top in places:
        if previous is not None:
            yield left, previous
        yield left, top
        previous = top


def threshold(frame: Frame, x: Scale, value: float, words: str) -> Markup:
    """Return a vertical line at a threshold, with words beside it."""
    at = x(value)
    is_right = at > (frame.left + frame.right) / 2
    return join((
        tag("line", x1=_n(at), x2=_n(at), y1=frame.top, y2=frame.bottom, class_="threshold"),
        tag("text", words, x=_n(at + (-5 if is_right else 5)), y=frame.bottom - 8,
            class_=f"label strong {'end' if is_right else ''}"),
    ))  # fmt: skip


def failure(at: float, bottom: float) -> Markup:
    """Return the mark of failed requests: a triangle on the lower edge."""
    return tag("path", d=f"M{_n(at)} {_n(bottom - 11)} l5 10 l-10 0 Z", class_="failure")


def bar(left: float, top: float, width: float, height: float, kind: str) -> Markup:
    """Return a bar."""
    return tag("rect", x=_n(left), y=_n(top), width=_n(max(0.0, width)), height=_n(max(0.0, height)), class_=kind)


def words(left: float, top: float, content: str, kind: str = "") -> Markup:
    """Return a text inside a chart."""
    return tag("text", content, x=_n(left), y=_n(top), class_=f"label {kind}".strip())


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
