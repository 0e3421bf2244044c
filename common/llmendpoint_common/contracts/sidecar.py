"""Interface of the sidecar: ports, configuration file, metric names, and the documents that it serves.

The operator, the load generator and dashboards depend on these names, so names are added and never removed.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec

from llmendpoint_common.contracts.modelfile import parse_modelfile
from llmendpoint_common.contracts.ollama import canonical_name, model_key
from llmendpoint_common.process.units import DURATION_PATTERN, parse_duration

#: Prefix of the environment variables that are settings of the sidecar.
ENVIRONMENT_PREFIX = "LLMENDPOINT_SIDECAR_"
PROXY_PORT = 11435
ADMIN_PORT = 8001
REQUEST_ID_HEADER = "X-Request-ID"
#: Shortest time without a byte from Ollama after which it can count as hung.
MIN_STALL_SECONDS = 1.0
#: Prefix of the names of all metric families.
METRIC_PREFIX = "llmendpoint_"


class Metric(StrEnum):
    """Full names of the metric families that other components read. A histogram adds `_bucket`, `_sum` and `_count`."""

    REQUESTS = f"{METRIC_PREFIX}requests_total"
    PROMPT_TOKENS = f"{METRIC_PREFIX}prompt_tokens_total"
    GENERATION_TOKENS = f"{METRIC_PREFIX}generation_tokens_total"
    TIME_TO_FIRST_TOKEN = f"{METRIC_PREFIX}time_to_first_token_seconds"
    REQUESTS_RUNNING = f"{METRIC_PREFIX}num_requests_running"
    REQUESTS_WAITING = f"{METRIC_PREFIX}num_requests_waiting"


class Operation(StrEnum):
    """Operations that requests ask Ollama to perform. They are the values of the metric label `operation`."""

    GENERATE = "generate"
    CHAT = "chat"
    EMBED = "embed"
    EMBEDDINGS = "embeddings"
    OPENAI_CHAT = "openai_chat"
    OPENAI_COMPLETIONS = "openai_completions"
    OPENAI_EMBEDDINGS = "openai_embeddings"
    OPENAI_RESPONSES = "openai_responses"
    OPENAI_TRANSCRIPTIONS = "openai_transcriptions"
    OPENAI_IMAGE_GENERATIONS = "openai_image_generations"
    OPENAI_IMAGE_EDITS = "openai_image_edits"
    ANTHROPIC_MESSAGES = "anthropic_messages"
    PULL = "pull"
    PUSH = "push"
    CREATE = "create"
    COPY = "copy"
    DELETE = "delete"
    BLOB = "blob"
    SHOW = "show"
    LIST = "list"
    INFO = "info"
    ALIAS = "alias"
    ACCOUNT = "account"
    OTHER = "other"


class Outcome(StrEnum):
    """Ways in which a request ends. They are the values of the metric label `outcome`."""

    OK = "ok"
    LENGTH = "length"
    LOAD = "load"
    UNLOAD = "unload"
    CLIENT_CANCELLED = "client_cancelled"
    STREAM_ERROR = "stream_error"
    TRUNCATED = "truncated"
    UPSTREAM_4XX = "upstream_4xx"
    UPSTREAM_5XX = "upstream_5xx"
    UPSTREAM_UNREACHABLE = "upstream_unreachable"
    UPSTREAM_TIMEOUT = "upstream_timeout"
    REJECTED = "rejected"
    REJECTED_AUTH = "rejected_auth"
    REJECTED_QUOTA = "rejected_quota"
    REJECTED_QUEUE = "rejected_queue"
    REJECTED_MODEL = "rejected_model"
    REJECTED_MANAGEMENT = "rejected_management"


class RefusalReason(StrEnum):
    """Reasons for which the proxy refused a request. They explain outcomes that begin with `rejected`.

    With OLLAMA_HUNG, the outcome is `upstream_timeout` if the request had been forwarded, else `upstream_unreachable`.
    """

    INVALID_HTTP = "invalid_http"
    LOOP = "loop"
    HOST = "host"
    KEY = "key"
    MANAGEMENT = "management"
    MODEL = "model"
    REQUESTS_PER_MINUTE = "requests_per_minute"
    TOKENS_PER_MINUTE = "tokens_per_minute"
    MAX_CONCURRENT = "max_concurrent"
    MAX_WAITING = "max_waiting"
    HELD_BODIES = "held_bodies"
    BODY_TOO_LARGE = "body_too_large"
    INVALID_BODY = "invalid_body"
    SLOW_REQUEST = "slow_request"
    CONNECTIONS = "connections"
    OLLAMA_HUNG = "ollama_hung"


class UnmeteredReason(StrEnum):
    """Reasons for which the tokens of a successful request are unknown.

    They are the values of the label `reason` of `unmetered_requests_total`.
    """

    NO_USAGE = "no_usage"
    UNREADABLE = "unreadable"
    UNKNOWN_ROUTE = "unknown_route"


class Load(StrEnum):
    """Times at which a declared model is loaded into memory: before the pod is ready, or on the first request."""

    PRELOAD = "Preload"
    ON_DEMAND = "OnDemand"


class Registry(msgspec.Struct, frozen=True, rename="camel"):
    """A registry other than Ollama's public one. `insecure` allows plain HTTP."""

    host: str
    repository: str
    insecure: bool = False

    def model_name(self, name: str) -> str:
        """Return the name with which Ollama pulls the model. Without a tag of its own, it has the tag of `name`."""
        tag = "" if ":" in self.repository else ":" + canonical_name(name).rpartition(":")[2]
        return f"{self.host}/{self.repository}{tag}"


class Gguf(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A GGUF file. `path` is its name for users. The sidecar reads it below the folder `root`."""

    path: str
    root: str = ""

    @property
    def file(self) -> str:
        """The path at which the sidecar reads the file."""
        return self.root + self.path


class DeclaredModel(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A model that the agent pulls or creates, and keeps.

    If `digest` is None, every digest is accepted. With `registry`, the model is pulled there, with `gguf`, it is
    created from a file, and otherwise it is pulled by its name. `modelfile` is the text of a Modelfile, with which the
    model is created from its source, or from the model that its FROM names.
    """

    name: str
    load: Load = Load.PRELOAD
    digest: str | None = None
    registry: Registry | None = None
    gguf: Gguf | None = None
    modelfile: str | None = None

    def __post_init__(self) -> None:
        if self.registry is not None and self.gguf is not None:
            raise ValueError(f"{self.name} may have registry or gguf, not both")
        if self.modelfile is None:
            return
        base = parse_modelfile(self.modelfile).base
        problem = modelfile_problem(self.name, base, self.source)
        if problem:
            raise ValueError(f"{self.name}: {problem}")

    @property
    def source(self) -> str | None:
        """The name or the file in `registry` or `gguf`, or None if the declaration has neither."""
        if self.registry is not None:
            return self.registry.model_name(self.name)
        return self.gguf.path if self.gguf is not None else None

    @property
    def is_created(self) -> bool:
        """Whether Ollama creates the model from other content, and does not only pull it."""
        return self.gguf is not None or self.modelfile is not None


def modelfile_problem(name: str, base: str, source: str | None) -> str:
    """Return an error in the FROM instruction of a model's Modelfile, or an empty string. `base` is its argument."""
    if not base and source is None:
        return "the Modelfile needs FROM, because there is no source"
    if base and source is not None:
        return "the Modelfile has FROM although the source is set; remove one of them"
    if model_key(base or source or "") == model_key(name):
        return "the Modelfile cannot change a model under its own name; give the new model another name"
    return ""


Count = Annotated[int, msgspec.Meta(ge=1)]


class TenantLimits(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Limits of a tenant. Each process counts separately. None means no limit, and an empty list allows no model."""

    requests_per_minute: Count | None = None
    tokens_per_minute: Count | None = None
    max_concurrent: Count | None = None
    allowed_models: tuple[str, ...] | None = None


class TenantConfig(TenantLimits, frozen=True, rename="camel", forbid_unknown_fields=True, kw_only=True):
    """Limits of the tenant `name`."""

    name: str


class ModelManagement(StrEnum):
    """Whether clients may pull, push, create, copy and delete models."""

    FORBIDDEN = "Forbidden"
    ALLOWED = "Allowed"


class IncludeUsage(StrEnum):
    """Whether the sidecar requests the token usage of an OpenAI stream if the client did not."""

    PASSTHROUGH = "Passthrough"
    INJECT = "Inject"


class StallConfig(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """When Ollama counts as hung. `after` is a duration of at least one second, such as `30m`."""

    after: Annotated[str, msgspec.Meta(pattern=DURATION_PATTERN, min_length=2, max_length=32)]

    def __post_init__(self) -> None:
        if parse_duration(self.after) < MIN_STALL_SECONDS:
            raise ValueError(f"`after` must be at least {MIN_STALL_SECONDS:g}s")


class SidecarConfig(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Content of the configuration file (`--config`), which the sidecar reloads when it changes.

    If it has the section `stall`, the section replaces the flag `--stall-after`. With `remove_undeclared`, models that
    it does not declare are deleted when all declared ones are ready.
    """

    models: tuple[DeclaredModel, ...] = ()
    remove_undeclared: bool = False
    require_full_offload: bool = False
    tenants: tuple[TenantConfig, ...] = ()
    default_tenant: TenantLimits = TenantLimits()
    max_waiting: Count | None = None
    model_management: ModelManagement = ModelManagement.ALLOWED
    allowed_hosts: tuple[str, ...] = ()
    include_usage: IncludeUsage = IncludeUsage.PASSTHROUGH
    stall: StallConfig | None = None


class ModelPhase(StrEnum):
    """Phases of a declared model in the model agent."""

    PENDING = "Pending"
    PULLING = "Pulling"
    LOADING = "Loading"
    READY = "Ready"
    FAILED = "Failed"


class ModelReason(StrEnum):
    """Reasons for which a declared model is not available. They are reasons of conditions (`docs/conditions.md`)."""

    MODEL_NOT_FOUND = "ModelNotFound"
    FILE_NOT_READABLE = "FileNotReadable"
    PULL_FAILED = "PullFailed"
    CREATE_FAILED = "CreateFailed"
    DIGEST_MISMATCH = "DigestMismatch"
    LOAD_FAILED = "LoadFailed"
    NOT_ON_GPU = "NotOnGPU"


_Size = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class ModelStatus(msgspec.Struct, frozen=True, rename="camel"):
    """A declared model in `/status`. Sizes are in bytes.

    `serving` is whether the declared version of the model has been made ready; until then, an earlier version may
    answer requests under its name. `bytesPerSecond`, `remainingSeconds`, `pulledBytes` and `pullBytes` are 0 unless the
    model is being pulled. `pullBytes` is the size of the layers that are known until then.
    `reason` is a ModelReason, or empty if nothing failed. Its type is `str`, so that the operator accepts the reasons
    of newer sidecars. The bounds are checked when the operator reads the status, because a pod may answer anything.
    """

    name: str
    phase: ModelPhase = ModelPhase.PENDING
    reason: Annotated[str, msgspec.Meta(max_length=64, pattern=r"^[A-Za-z]*$")] = ""
    message: str = ""
    present: bool = False
    loaded: bool = False
    digest: Annotated[str, msgspec.Meta(max_length=128)] = ""
    size_bytes: _Size = 0
    vram_bytes: _Size = 0
    loaded_bytes: _Size = 0
    progress_percent: Annotated[int, msgspec.Meta(ge=0, le=100)] = 0
    bytes_per_second: _Size = 0
    remaining_seconds: _Size = 0
    serving: bool = True
    pulled_bytes: _Size = 0
    pull_bytes: _Size = 0


class Totals(msgspec.Struct, frozen=True, rename="camel"):
    """Requests and tokens since the process started, and requests in flight now.

    `errors` counts every outcome except ok, length, load and unload. It includes requests that clients cancelled.
    """

    requests: int = 0
    errors: int = 0
    prompt_tokens: int = 0
    generation_tokens: int = 0
    running: int = 0
    waiting: int = 0


class Stall(msgspec.Struct, frozen=True, rename="camel"):
    """Ollama is hung: it answers its own requests, but runs no model. `since` is the Unix time at which it was noticed.

    The bounds are checked when the operator reads the status, because a pod may answer anything.
    """

    since: Annotated[float, msgspec.Meta(ge=0, le=2**40)]
    message: Annotated[str, msgspec.Meta(max_length=1024)]


class SidecarStatus(msgspec.Struct, frozen=True, rename="camel"):
    """Body of `GET /status`. `stalled` is None unless Ollama is hung. `lastStall` stays when a hang is over.

    `configDigest` is the SHA-256 of the configuration file in use, in hexadecimal digits. It is empty without a file.
    `upstreamProblem` says what answers at the address of Ollama if it is not Ollama, as a part of a sentence.
    """

    version: str
    ready: bool
    draining: bool
    upstream_up: bool
    upstream_version: str
    models: tuple[ModelStatus, ...]
    totals: Totals
    stalled: Stall | None = None
    last_stall: Stall | None = None
    config_digest: Annotated[str, msgspec.Meta(max_length=64, pattern="^[0-9a-f]*$")] = ""
    upstream_problem: Annotated[str, msgspec.Meta(max_length=1024)] = ""


class RequestRecord(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """A finished request: the body of `GET /status/requests/ID`, and a line of the access log.

    `time` is the Unix time at which the request ended. All other times are durations in seconds. None means unknown.
    `timeToFirstToken` and `timePerOutputToken` exist only for streams. `refusalReason` is set if the proxy refused the
    request, or ended it because Ollama is hung.
    `requestId` is empty if the client sent an ID that has other characters than letters, digits and `_.:-`, or more
    than 128 characters. `traceParent` is the client's W3C trace context if it is well formed. A record contains no
    content, address, key or path.
    """

    time: float
    request_id: str
    tenant: str
    model_name: str
    operation: Operation
    code: int
    outcome: Outcome
    duration: float
    time_to_first_token: float | None = None
    overhead: float | None = None
    prompt_tokens: int | None = None
    generation_tokens: int | None = None
    cached_tokens: int | None = None
    queue: float | None = None
    load: float | None = None
    prefill: float | None = None
    decode: float | None = None
    trace_parent: str = ""
    time_per_output_token: float | None = None
    refusal_reason: RefusalReason | None = None


#: Number of the last requests that a sidecar lists.
MAX_LISTED_REQUESTS = 200


class RequestList(msgspec.Struct, frozen=True, rename="camel"):
    """Body of `GET /status/requests?after=TIME&limit=N`: the last requests that have ended, the last one at the end.

    `after` is a Unix time: only requests that ended later are listed. A record may be listed up to a second after the
    request has ended, and then after records of later requests. Therefore a program that polls asks again for some
    seconds that it knows already. `limit` is at most 200, which is also its default.
    """

    requests: tuple[RequestRecord, ...]
