"""Builders of panels and variables that all dashboards use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import prometheus, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.builders.dashboard import (
    Dashboard,
    DashboardLink,
    DatasourceVariable,
    QueryVariable,
    Row,
    ThresholdsConfig,
)
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    DataTransformerConfig,
    DynamicConfigValue,
    Threshold,
    ThresholdsMode,
    VariableRefresh,
    VariableSort,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

Graph: TypeAlias = timeseries.Panel
Panel: TypeAlias = timeseries.Panel | stat.Panel | table.Panel | statetimeline.Panel

TAG = "llmendpoint"
_SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
#: A value that no query gives to an absent label, and that matches every value and an absent label.
_ALL = ".*"
_HEIGHT = 8
_STAT_HEIGHT = 4


class Query(NamedTuple):
    """A query, and the legend of its series. `{{label}}` in a legend stands for the value of a label."""

    expr: str
    legend: str = ""


@dataclass(frozen=True)
class About:
    """The title of a panel, a sentence about what it shows, and the unit of its values as Grafana names it."""

    title: str
    text: str
    unit: str = "short"
    width: int = 8


@dataclass(frozen=True)
class Section:
    """A row of a dashboard, and its panels."""

    title: str
    panels: Sequence[Panel] = field(default_factory=tuple)


def graph(about: About, *queries: Query, stacked: bool = False, top: float | None = None) -> Panel:
    """Return a graph over time. `top` is the highest value of its axis if it has a natural one, such as 1."""
    panel = timeseries.Panel().fill_opacity(30 if stacked else 5).line_width(1).min(0)
    legend = common_builders.VizLegendOptions().show_legend(True).calcs(["mean", "max", "lastNotNull"])
    panel.legend(legend.display_mode(common.LegendDisplayMode.TABLE).placement(common.LegendPlacement.BOTTOM))
    panel.tooltip(common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI))
    if stacked:
        panel.stacking(common_builders.StackingConfig().mode(common.StackingMode.NORMAL))
    if top is not None:
        panel.max(top)
    _describe(panel, about, _HEIGHT)
    for number, query in enumerate(queries):
        panel.with_target(_target(query, number))
    return panel


def number(about: About, expr: str, steps: Mapping[float | None, str] | None = None) -> Panel:
    """Return one number. `steps` are the colors of values from a threshold on; None stands for the lowest."""
    panel = stat.Panel().graph_mode(common.BigValueGraphMode.NONE)
    panel.reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]))
    thresholds = [Threshold(value=value, color=color) for value, color in (steps or {None: "text"}).items()]
    panel.thresholds(ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(thresholds))
    _describe(panel, about, _STAT_HEIGHT)
    return panel.with_target(_target(Query(expr), 0).instant())


def rows(about: About, queries: Mapping[str, str], units: Mapping[str, str] | None = None) -> Panel:
    """Return a table with one row per series. The keys of `queries` are the titles of its columns with values.

    All queries must have the same labels, which become the other columns. `units` are units of columns by their titles.
    """
    panel = table.Panel()
    _describe(panel, about, _HEIGHT)
    names = {}
    for index, (title, expr) in enumerate(queries.items()):
        target = _target(Query(expr), index).instant().format(PromQueryFormat.TABLE)
        panel.with_target(target)
        names["Value" if len(queries) == 1 else f"Value #{_reference(index)}"] = title
    for title, unit in (units or {}).items():
        panel.override_by_name(title, [DynamicConfigValue(id_val="unit", value=unit)])
    excluded = dict.fromkeys(("Time", "__name__"), True)
    panel.with_transformation(DataTransformerConfig(id_val="merge", options={}))
    organized = {"excludeByName": excluded, "renameByName": names, "indexByName": {}}
    return panel.with_transformation(DataTransformerConfig(id_val="organize", options=organized))


def states(about: About, *queries: Query) -> Panel:
    """Return the course of values that are 0 or 1, one line per series."""
    panel = statetimeline.Panel().show_value(common.VisibilityMode.NEVER).merge_values(True)
    steps = [Threshold(value=None, color="semi-dark-red"), Threshold(value=1, color="semi-dark-green")]
    panel.thresholds(ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))
    _describe(panel, about, _HEIGHT)
    for index, query in enumerate(queries):
        panel.with_target(_target(query, index))
    return panel


def choice(name: str, query: str, *, several: bool = True) -> QueryVariable:
    """Return a variable whose values are read from Prometheus. With `several`, all values are chosen at first."""
    variable = QueryVariable(name).query(query).datasource(_SOURCE).refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
    variable.sort(VariableSort.ALPHABETICAL_ASC)
    return variable.multi(True).include_all(True).all_value(_ALL) if several else variable


def endpoint_choices(*, several: bool = True) -> list[QueryVariable]:
    """Return the variables `namespace` and `llmendpoint`."""
    return [
        choice("namespace", "label_values(llmendpoint_info, namespace)", several=several),
        choice("llmendpoint", 'label_values(llmendpoint_info{namespace=~"$namespace"}, llmendpoint)', several=several),
    ]


def dashboard(
    name: str, title: str, text: str, choices: Sequence[QueryVariable], sections: Sequence[Section]
) -> Dashboard:
    """Return a dashboard with the variable `datasource` and links to the other dashboards."""
    board = Dashboard(f"LLMEndpoint / {title}").uid(f"llmendpoint-{name}").description(text).tags([TAG])
    board.time("now-1h", "now").refresh("30s").timezone("browser").tooltip(DashboardCursorSync.CROSSHAIR)
    board.editable()
    links = DashboardLink("LLMEndpoint").type(DashboardLinkType.DASHBOARDS).tags([TAG]).as_dropdown(True)
    board.link(links.include_vars(True).keep_time(True))
    board.with_variable(DatasourceVariable("datasource").type("prometheus"))
    for variable in choices:
        board.with_variable(variable)
    for section in sections:
        board.with_row(Row(section.title))
        for panel in section.panels:
            board.with_panel(panel)
    return board


def _describe(panel: Panel, about: About, height: int) -> None:
    panel.title(about.title).description(about.text).datasource(_SOURCE).unit(about.unit)
    panel.height(height).span(about.width)


def _target(query: Query, index: int) -> prometheus.Dataquery:
    target = prometheus.Dataquery().expr(query.expr).ref_id(_reference(index)).datasource(_SOURCE)
    return target.legend_format(query.legend or "__auto")


def _reference(index: int) -> str:
    return chr(ord("A") + index)
