"""JSON of the dashboard's HTTP interface: the sections of the state, their rows, the events, and the other answers.

The front end reads exactly these types. All names are in camelCase on the wire. Times are Unix times in seconds,
durations are in seconds, sizes in bytes, and shares are fractions from 0 to 1. None (`null`) means that a value is not
known; a counter or a rate that is known to be 0 is 0. No answer contains a prompt, a response, a key, a header, or the
path of a file on this machine.

A *value section* is replaced as a whole. A *table section* is a list of rows in no particular order; rows are added,
replaced and removed by their field `key`. Fields are added and never removed.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec


class ValueSection(StrEnum):
    """Names of the sections that are replaced as a whole."""

    ABOUT = "about"
    OVERVIEW = "overview"


class TableSection(StrEnum):
    """Names of the sections that consist of rows."""

    MODELS = "models"
    ENDPOINTS = "endpoints"
    LOADTESTS = "loadtests"
    REQUESTS = "requests"
    DOCTOR = "doctor"


class _Value(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """Base of all types."""


class Row(_Value, frozen=True, kw_only=True):
    """Base of all rows. `key` identifies a row in its table, and can be part of a URL after percent-encoding."""

    key: str


# --- about ------------------------------------------------------------------------------------------------------------


class Mode(StrEnum):
    """Whether the dashboard shows the processes of one machine, or the endpoints of a cluster."""

    MACHINE = "machine"
    CLUSTER = "cluster"


class SourceState(StrEnum):
    """States of a source.

    - OK: it answered the last poll.
    - STALE: it did not, so its figures are those of its last answer.
    - DOWN: it has not answered for 30 s, or never, so it is not part of the overview.
    """

    OK = "ok"
    STALE = "stale"
    DOWN = "down"


class Source(_Value, frozen=True, kw_only=True):
    """A sidecar whose metrics are read.

    `url` is the address of its admin port. `simulated` is whether its upstream is the simulator. `last_seen` is the
    time of its last complete answer if it is stale or down, and None if it is ok, so that the section does not change
    with every poll. `message` is one sentence that says why it is not ok; a source that is ok has one if its Ollama
    does not answer.
    """

    name: str
    url: str
    simulated: bool = False
    state: SourceState
    last_seen: float | None = None
    message: str = ""


class About(_Value, frozen=True, kw_only=True):
    """Section `about`: what this dashboard is and reads.

    `prometheus` is whether a Prometheus is configured, and `prometheus_message` why it cannot be used now.
    `can_start_load_tests` is whether `POST /api/v1/loadtests` starts load tests. `cluster` is one sentence about the
    connection to the API server if the mode is `cluster`; it is empty while everything is watched.
    """

    version: str
    mode: Mode
    prometheus: bool
    prometheus_message: str = ""
    can_start_load_tests: bool
    cluster: str = ""
    sources: tuple[Source, ...] = ()


# --- overview ---------------------------------------------------------------------------------------------------------


class Percentiles(_Value, frozen=True, kw_only=True):
    """Percentiles of a latency, in seconds. They are interpolated within the buckets of a histogram."""

    p50: float
    p95: float
    p99: float


class Traffic(_Value, frozen=True, kw_only=True):
    """Traffic over the last `window_seconds` of the overview, of everything, of one model, or of one tenant.

    Rates are per second. `running` and `waiting` are requests in flight now. `ttft` (time to first token) and
    `inter_chunk` are None if no stream was measured in the window. A tenant has only rates, so that its other fields
    are None. `outcomes` has the requests per second of each outcome that occurred in the window.
    """

    prompt_tokens_per_second: float
    generation_tokens_per_second: float
    requests_per_second: float
    running: int | None = None
    waiting: int | None = None
    ttft: Percentiles | None = None
    inter_chunk: Percentiles | None = None
    outcomes: dict[str, float] = {}


class ModelTraffic(Traffic, frozen=True, kw_only=True):
    """Traffic of one model, over all sources. `model` is the label `model_name`."""

    model: str


class TenantTraffic(Traffic, frozen=True, kw_only=True):
    """Traffic of one tenant, over all sources. `tenant` is empty for requests without a tenant."""

    tenant: str


class Overview(_Value, frozen=True, kw_only=True):
    """Section `overview`: the traffic of the last `window_seconds`, over all sources that are not down.

    `time` is when it was computed. `window_seconds` is 30, or less while the sources are known for a shorter time; it
    is 0 as long as no source has answered twice. Models and tenants are sorted by their generated tokens, most first.
    """

    time: float
    window_seconds: float
    total: Traffic
    models: tuple[ModelTraffic, ...] = ()
    tenants: tuple[TenantTraffic, ...] = ()


# --- models -----------------------------------------------------------------------------------------------------------


class ModelState(StrEnum):
    """States of a model. LOADED: in memory. AVAILABLE: on the disk. The others are phases of a declared model."""

    LOADED = "loaded"
    AVAILABLE = "available"
    PENDING = "pending"
    PULLING = "pulling"
    LOADING = "loading"
    FAILED = "failed"
    REMOTE = "remote"


class Pull(_Value, frozen=True, kw_only=True):
    """A pull in progress. `seconds_left` is None if it cannot be estimated yet."""

    completed_bytes: int
    total_bytes: int
    bytes_per_second: float
    seconds_left: float | None = None


class ModelRow(Row, frozen=True, kw_only=True):
    """Row of `models`: a model of one source. The key is SOURCE/MODEL.

    `size_bytes` is the memory of a loaded model, and the size on the disk of any other one. `vram_bytes` is its part on
    the GPU, and `gpu_share` that part as a fraction; both are None if the model is not in memory. `expires` is when
    Ollama unloads it, None if it does not. `loads` and `evictions` count how often the model has come into memory and
    left it since the dashboard started. `loaded_before` is whether it was in memory already when the sidecar was first
    read, so that it has been loaded at least once more than `loads`. `message` says why a declared model is not
    available.
    """

    source: str
    name: str
    state: ModelState
    digest: str = ""
    size_bytes: int | None = None
    vram_bytes: int | None = None
    gpu_share: float | None = None
    context_length: int | None = None
    expires: float | None = None
    pull: Pull | None = None
    loads: int = 0
    loaded_before: bool = False
    evictions: int = 0
    message: str = ""


# --- endpoints --------------------------------------------------------------------------------------------------------


class Condition(_Value, frozen=True, kw_only=True):
    """A condition of an LLMEndpoint, as the Kubernetes API has it. The time is in RFC 3339."""

    type: str
    status: str
    reason: str
    message: str = ""
    last_transition_time: str = ""


class EndpointRow(Row, frozen=True, kw_only=True):
    """Row of `endpoints`: an LLMEndpoint. The key is NAMESPACE/NAME.

    `ready` is the status of the condition Ready (`True`, `False` or `Unknown`). `reason` and `message` are those of the
    same condition, or of Reconciling if the endpoint has no replicas. `models` are the declared names. `gpu` is what a
    replica requests, such as `1 nvidia.com/gpu`, or empty. `advice` says what to do, and is empty if nothing is wrong.
    """

    namespace: str
    name: str
    ready: str
    reason: str = ""
    message: str = ""
    url: str = ""
    models: tuple[str, ...] = ()
    replicas: int = 0
    ready_replicas: int = 0
    gpu: str = ""
    conditions: tuple[Condition, ...] = ()
    advice: str = ""


# --- load tests -------------------------------------------------------------------------------------------------------


class Origin(StrEnum):
    """Origins of load tests: the folder of runs of this machine, or LoadTests of the cluster."""

    MACHINE = "machine"
    CLUSTER = "cluster"


class RunState(StrEnum):
    """States of a load test."""

    WAITING = "waiting"
    RUNNING = "running"
    ENDED = "ended"


class ObjectiveState(_Value, frozen=True, kw_only=True):
    """An objective such as `TTFT p95 ≤ 2 s`. `measured` is text with a unit. `met` is None if nothing was measured."""

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


# --- requests ---------------------------------------------------------------------------------------------------------

#: Number of rows that the table `requests` has at most.
MAX_REQUESTS = 200


class RequestRow(Row, frozen=True, kw_only=True):
    """Row of `requests`: one of the last 200 requests, without content.

    `time` is when it ended. `queue`, `load`, `prefill` and `decode` are the parts of its duration that Ollama reports.
    They do not add up to `duration`, which the sidecar measures. `ttft` is None unless the response was a stream.
    """

    time: float
    source: str
    request_id: str = ""
    model: str
    tenant: str
    operation: str
    code: int
    outcome: str
    duration: float
    ttft: float | None = None
    queue: float | None = None
    load: float | None = None
    prefill: float | None = None
    decode: float | None = None
    prompt_tokens: int | None = None
    generation_tokens: int | None = None


# --- doctor -----------------------------------------------------------------------------------------------------------


class Severity(StrEnum):
    """Severities of findings."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


class DoctorRow(Row, frozen=True, kw_only=True):
    """Row of `doctor`: a cause of a problem.

    `subject` is the thing with the problem, and `cause` the identifier of the cause. `sentence` describes the problem,
    and `advice` what to do. `command` is the command that fixes it, or empty.
    """

    severity: Severity
    subject: str
    cause: str
    sentence: str
    advice: str = ""
    command: str = ""


# --- state and events -------------------------------------------------------------------------------------------------


class State(_Value, frozen=True, kw_only=True):
    """Answer of `GET /api/v1/state`, and data of the event `state`.

    `sections` has each section by its name: an object for a value section, a list of rows for a table section. A value
    section is absent until it is known; a table section is always there. `epoch` changes when the dashboard restarts,
    and `version` increases with every change within an epoch. The ID of an event is EPOCH-VERSION.
    """

    epoch: str
    version: int
    sections: dict[str, Any]


class SectionEvent(_Value, frozen=True, kw_only=True):
    """Data of the event `section`: the new value of a value section."""

    name: str
    value: Any


class RowsEvent(_Value, frozen=True, kw_only=True):
    """Data of the event `rows`: rows of a table section to add or replace, and keys of rows to remove."""

    name: str
    upsert: list[Any] = []
    remove: list[str] = []


# --- history ----------------------------------------------------------------------------------------------------------


class SeriesName(StrEnum):
    """Names of the series of a history. Latencies are in seconds, the others are numbers or rates per second."""

    PROMPT_TOKENS = "promptTokensPerSecond"
    GENERATION_TOKENS = "generationTokensPerSecond"
    RUNNING = "running"
    WAITING = "waiting"
    TTFT_P50 = "ttftP50"
    TTFT_P95 = "ttftP95"
    INTER_CHUNK_P50 = "interChunkP50"
    INTER_CHUNK_P95 = "interChunkP95"
    ERRORS = "errorsPerSecond"


class HistorySource(StrEnum):
    """Sources of histories.

    - SIDECARS: what the dashboard has read from the sidecars itself.
    - PROMETHEUS: the same for the time that it covers, and Prometheus for what is older.
    """

    SIDECARS = "sidecars"
    PROMETHEUS = "prometheus"


class Series(_Value, frozen=True, kw_only=True, omit_defaults=True):
    """A series. `values` has one value for each of the times. `outcome` is set if the name is `errorsPerSecond`.

    There is one series of errors for each outcome that occurred and is an error.
    """

    name: SeriesName
    values: list[float | None]
    outcome: str = ""


class History(_Value, frozen=True, kw_only=True):
    """Answer of `GET /api/v1/history?range=15m|1h|6h|24h|7d&model=&tenant=`.

    `step` is the distance between two times, in seconds, and `range` the range that was asked for. `message` says why a
    part is missing, for example that Prometheus does not answer and the sidecars' last hour is shown instead. With a
    tenant there are only tokens and errors, because the metrics of latencies have no tenants.
    """

    range: str
    step: float
    source: HistorySource
    message: str = ""
    times: list[float]
    series: list[Series]


# --- load tests: details, comparison, start ---------------------------------------------------------------------------


class LoadTestDetail(_Value, frozen=True, kw_only=True):
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


class ComparedMetric(_Value, frozen=True, kw_only=True):
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


class Comparison(_Value, frozen=True, kw_only=True):
    """Answer of `GET /api/v1/loadtests/compare?a=KEY&b=KEY`.

    `differences` are the settings in which the runs differ, one sentence each: with any, the values are of different
    tests. `message` is one sentence if the runs cannot be compared, and the metrics are empty then. `command` compares
    all that was measured, if the metrics are only those of two statuses. Otherwise it is empty.
    """

    a: LoadTestRow
    b: LoadTestRow
    metrics: list[ComparedMetric] = []
    differences: list[str] = []
    message: str = ""
    command: str = ""


class LoadTestRequest(_Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of `POST /api/v1/loadtests` and `POST /api/v1/manifest`.

    `source` is the name of a source of the section `about`, and in a cluster the NAMESPACE/NAME of an endpoint. At most
    one of `scenario`, `concurrency` and `rate` is set; none of them is one user. `duration` is written like `30s` or
    `5m`; it is required unless there is a scenario. `objectives` are written like `ttft:p95=2s` or `error-rate=1%`.
    `name` is part of the key of the run. `api_key` is sent with the requests of the run, and stored nowhere. A manifest
    does not contain it.
    """

    source: str
    model: str
    scenario: str | None = None
    concurrency: int | None = None
    rate: float | None = None
    duration: str | None = None
    objectives: list[str] = []
    name: str = ""
    api_key: str = ""


class LoadTestStarted(_Value, frozen=True, kw_only=True):
    """Answer of `POST /api/v1/loadtests` (202): the key of the new row."""

    key: str


class Preset(_Value, frozen=True, kw_only=True):
    """Element of the answer of `GET /api/v1/presets`: a scenario by its name, and one sentence about its load."""

    name: str
    description: str


class Manifest(_Value, frozen=True, kw_only=True):
    """Answer of `POST /api/v1/manifest`: a LoadTest as YAML, and the command that creates it from standard input.

    `local` is the command of `llmendpoint load` that runs the same test from this machine, empty in a cluster.
    """

    manifest: str
    command: str
    local: str = ""


class Session(_Value, frozen=True, kw_only=True):
    """Answer of `GET /api/v1/session`: the token for the header `X-CSRF-Token` of every POST. Sets a cookie."""

    csrf: str


class Problem(_Value, frozen=True, kw_only=True):
    """Body of every error of the API (status 400 and above): one sentence, which can be shown as it is.

    `field` is the field of the request's body that is wrong, or empty.
    """

    error: str
    field: str = ""
