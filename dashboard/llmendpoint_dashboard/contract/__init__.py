"""JSON of the dashboard's HTTP interface: the sections of the state, their rows, the events, and the other answers.

The front end reads exactly these types. All names are in camelCase on the wire. Times are Unix times in seconds,
durations are in seconds, sizes in bytes, and shares are fractions from 0 to 1. None (`null`) means that a value is not
known; a counter or a rate that is known to be 0 is 0. No answer contains a prompt, a response, a key, a header, or the
path of a file on this machine.

A *value section* is replaced as a whole. A *table section* is a list of rows in no particular order; rows are added,
replaced and removed by their field `key`. Fields are added and never removed.
"""

from __future__ import annotations

from llmendpoint_dashboard.contract.access import Problem, Session
from llmendpoint_dashboard.contract.endpoints import Condition, EndpointRow
from llmendpoint_dashboard.contract.events import RowsEvent, SectionEvent, State
from llmendpoint_dashboard.contract.findings import DoctorRow, Severity
from llmendpoint_dashboard.contract.history import History, HistorySource, Series, SeriesName
from llmendpoint_dashboard.contract.loadtests import (
    Better,
    ComparedMetric,
    Comparison,
    LoadTestDetail,
    LoadTestRequest,
    LoadTestRow,
    LoadTestStarted,
    Manifest,
    ObjectiveState,
    Origin,
    Preset,
    RunState,
)
from llmendpoint_dashboard.contract.models import ModelRow, ModelState, Pull
from llmendpoint_dashboard.contract.requests import MAX_REQUESTS, RequestRow
from llmendpoint_dashboard.contract.sections import Row, TableSection, ValueSection
from llmendpoint_dashboard.contract.sources import About, Mode, Source, SourceState
from llmendpoint_dashboard.contract.traffic import ModelTraffic, Overview, Percentiles, TenantTraffic, Traffic

__all__ = [
    "MAX_REQUESTS",
    "About",
    "Better",
    "ComparedMetric",
    "Comparison",
    "Condition",
    "DoctorRow",
    "EndpointRow",
    "History",
    "HistorySource",
    "LoadTestDetail",
    "LoadTestRequest",
    "LoadTestRow",
    "LoadTestStarted",
    "Manifest",
    "Mode",
    "ModelRow",
    "ModelState",
    "ModelTraffic",
    "ObjectiveState",
    "Origin",
    "Overview",
    "Percentiles",
    "Preset",
    "Problem",
    "Pull",
    "RequestRow",
    "Row",
    "RowsEvent",
    "RunState",
    "SectionEvent",
    "Series",
    "SeriesName",
    "Session",
    "Severity",
    "Source",
    "SourceState",
    "State",
    "TableSection",
    "TenantTraffic",
    "Traffic",
    "ValueSection",
]
