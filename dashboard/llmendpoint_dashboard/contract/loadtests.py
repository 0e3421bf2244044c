"""Rows of `loadtests`, and the answers and requests about load tests."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

from llmendpoint_dashboard.contract.sections import Row, Value
from llmendpoint_dashboard.contract.traffic import Percentiles


class Origin(StrEnum):
    """Origins of load tests: the folder of runs of this machine, or LoadTests of the cluster."""

    MACHINE = "machine"
    CLUSTER = "cluster"


class RunState(StrEnum):
    """States of a load test."""

    WAITING = "waiting"
    RUNNING = "running"
    ENDED = "ended"


class ObjectiveState(Value, frozen=True, kw_only=True):
    """An objective such as `TTFT p95 ≤ 2 s`.

    `measured` is text with a unit, empty if nothing was measured. `met` is None if the objective was not judged.
    """

    text: str
    measured: str = ""
    met: bool | None = None


class LoadTestRow(Row, frozen=True, kw_only=True):
    """Row of `loadtests`. The key is the name of the run's folder on a machine, and NAMESPACE/NAME in a cluster.

    `namespace` is empty on a machine. `load` describes the load in one sentence. `percent` (0 to 100) is the progress
    of a run that continues, `awaiting` says what the run waits for, and `in_flight` is the number of requests without a
    complete response. `verdict` and `reason` are those of the result
    (contracts/loadrun, `Verdict` and `VerdictReason`), empty before the end. `ttft` is that of the whole run.
    `has_report` is whether `GET /api/v1/loadtests/KEY/report.html` answers. If it does not, `report_command` is the
    command that fetches the report, or empty. `can_stop` is whether this dashboard can stop the run.
    """

    name: str
    origin: Origin
    namespace: str = ""
    state: RunState
    started: float | None = None
    ended: float | None = None
    target: str = ""
    model: str = ""
    load: str = ""
    percent: int = 0
    awaiting: str = ""
    in_flight: int = 0
    requests: int = 0
    errors: int = 0
    requests_per_second: float | None = None
    objectives: tuple[ObjectiveState, ...] = ()
    verdict: str = ""
    reason: str = ""
    message: str = ""
    ttft: Percentiles | None = None
    has_report: bool = False
    report_command: str = ""
    can_stop: bool = False


class LoadTestDetail(Value, frozen=True, kw_only=True):
    """Answer of `GET /api/v1/loadtests/KEY`.

    `summary` is the content of `summary.json` (contracts/loadrun, `Summary`), or `status.summary` of a LoadTest. It is
    None until the run has ended.
    """

    row: LoadTestRow
    summary: Any = None


class Better(StrEnum):
    """The run that has the better value."""

    A = "a"
    B = "b"


class ComparedMetric(Value, frozen=True, kw_only=True):
    """A metric of two runs.

    `unit` is empty for a number, `s` for seconds, `share` for a fraction, and else `requests/s` or `tokens/s`. `change`
    is the relative difference from a to b (0.1 is 10 % more), None if a is 0 or a value is missing. `better` is None if
    no value is better: they are equal, one is missing, or neither direction is better.
    """

    name: str
    unit: str
    a: float | None
    b: float | None
    change: float | None = None
    better: Better | None = None


class Comparison(Value, frozen=True, kw_only=True):
    """Answer of `GET /api/v1/loadtests/compare?a=KEY&b=KEY`.

    `differences` are the settings in which the runs differ, one sentence each: with any, the values are of different
    tests. `message` is one sentence if the runs cannot be compared, and the metrics are empty then. `command` compares
    all that was measured, if the metrics are only those of two statuses. Otherwise it is empty.
    """

    a: LoadTestRow
    b: LoadTestRow
    metrics: list[ComparedMetric] = msgspec.field(default_factory=list)
    differences: list[str] = msgspec.field(default_factory=list)
    message: str = ""
    command: str = ""


class LoadTestRequest(Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of `POST /api/v1/loadtests` and `POST /api/v1/manifest`.

    `source` is the name of a source of the section `about`, and in a cluster the NAMESPACE/NAME of an endpoint. At most
    one of `scenario`, `concurrency` and `rate` is set; none of them is one user. `duration` is written like `30s` or
    `5m`; it is required unless there is a scenario. `objectives` are written like `ttft:p95=2s` or `error-rate=1%`.
    `name` is part of the key of the run. `api_key` is sent with the requests of the run, and stored nowhere. If it is
    empty, that of the stack is sent, if the stack has one. A manifest does not contain it.
    """

    source: str
    model: str
    scenario: str | None = None
    concurrency: int | None = None
    rate: float | None = None
    duration: str | None = None
    objectives: list[str] = msgspec.field(default_factory=list)
    name: str = ""
    api_key: str = ""


class LoadTestStarted(Value, frozen=True, kw_only=True):
    """Answer of `POST /api/v1/loadtests` (202): the key of the new row."""

    key: str


class Preset(Value, frozen=True, kw_only=True):
    """Element of the answer of `GET /api/v1/presets`: a scenario by its name, and one sentence about its load."""

    name: str
    description: str


class Manifest(Value, frozen=True, kw_only=True):
    """Answer of `POST /api/v1/manifest`: a LoadTest as YAML, and the command that creates it from standard input.

    `local` is the command of `llmendpoint load` that runs the same test from this machine, empty in a cluster.
    """

    manifest: str
    command: str
    local: str = ""
