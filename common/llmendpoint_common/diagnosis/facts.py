"""Facts about a machine and about a cluster, from which the rules derive findings.

Facts say what was observed, and None if it was not. They contain no judgement, no clock and no I/O, so a test states
them as values. Times are Unix times in seconds, sizes are in bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from llmendpoint_common.contracts.sidecar import SidecarStatus


class SilenceKind(StrEnum):
    """Why a server gave no usable answer."""

    #: No process listens on the port.
    REFUSED = "refused"
    #: The connection was accepted, but no answer arrived in time.
    TIMEOUT = "timeout"
    #: Something else than the expected server answers.
    FOREIGN = "foreign"
    #: The host is not known or not reachable, or TLS failed.
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True)
class Silence:
    """A server that gave no usable answer. `error` is one line for people."""

    kind: SilenceKind
    error: str


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A model on the disk of an Ollama (`/api/tags`). `size` is that of its files."""

    name: str
    size: int = 0


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model in the memory of an Ollama (`/api/ps`).

    `wanted_context` is the number of tokens that the model's own parameters, the stack or the user ask for, with the
    name of who asks in `wanted_by`. It is None if nobody asks for one.
    """

    name: str
    size: int
    vram: int
    context: int | None = None
    wanted_context: int | None = None
    wanted_by: str = ""


@dataclass(frozen=True, slots=True)
class OllamaFacts:
    """An Ollama, or the simulator in its place. `skew` is how far its clock is ahead of ours, in seconds."""

    url: str
    silence: Silence | None = None
    version: str = ""
    models: tuple[LocalModel, ...] = ()
    loaded: tuple[LoadedModel, ...] = ()
    wanted_models: tuple[str, ...] = ()
    skew: float | None = None
    is_simulated: bool = False
    is_local: bool = True


@dataclass(frozen=True, slots=True)
class SidecarFacts:
    """A sidecar. `is_expected` is whether something says that it should run: a stack, a setting or an option."""

    name: str
    url: str
    status: SidecarStatus | None = None
    silence: Silence | None = None
    skew: float | None = None
    is_expected: bool = True
    #: URL of the upstream, if it is known.
    upstream: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """An active target of Prometheus. `health` is `up`, `down` or `unknown`."""

    url: str
    health: str
    error: str = ""
    last_scrape: float | None = None


@dataclass(frozen=True, slots=True)
class PrometheusFacts:
    """A Prometheus server. `skew` is how far its clock is ahead of ours, in seconds."""

    url: str
    silence: Silence | None = None
    targets: tuple[Target, ...] = ()
    skew: float | None = None
    is_expected: bool = True
    #: Path of the configuration file, if it is known.
    configuration: str = ""


@dataclass(frozen=True, slots=True)
class PortOwner:
    """A process that listens on a port. `pid` is None if it belongs to another user."""

    pid: int | None = None
    command: str = ""


@dataclass(frozen=True, slots=True)
class PortFacts:
    """A port that one of our processes needs, and another process that listens on it."""

    port: int
    needed_by: str
    owner: PortOwner
    #: Option of `llmendpoint up` that selects another port.
    option: str = ""


@dataclass(frozen=True, slots=True)
class ProcessFacts:
    """A process that `llmendpoint up` started. `log` is the path of its log, and `last_words` its last lines."""

    name: str
    pid: int
    is_running: bool
    since: float | None = None
    log: str = ""
    last_words: str = ""


@dataclass(frozen=True, slots=True)
class DiskFacts:
    """The file system with the models."""

    path: str
    free: int
    total: int


@dataclass(frozen=True, slots=True)
class MachineFacts:
    """What was observed on one machine.

    `now` is the time of the observation. `clock_step` is the number of seconds by which the wall clock moved against the
    monotonic clock during the observation. `has_gpu` and `file_limit` are None if they are not known.
    """

    now: float
    ollamas: tuple[OllamaFacts, ...] = ()
    sidecars: tuple[SidecarFacts, ...] = ()
    prometheus: PrometheusFacts | None = None
    ports: tuple[PortFacts, ...] = ()
    processes: tuple[ProcessFacts, ...] = ()
    disk: DiskFacts | None = None
    file_limit: int | None = None
    has_gpu: bool | None = None
    clock_step: float = 0.0


@dataclass(frozen=True, slots=True)
class ConditionFacts:
    """A condition in the status of an object. `status` is `True`, `False` or `Unknown`."""

    type: str
    status: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class EndpointFacts:
    """An LLMEndpoint, as the API server has it."""

    namespace: str
    name: str
    conditions: tuple[ConditionFacts, ...] = ()


@dataclass(frozen=True, slots=True)
class OperatorFacts:
    """The operator, as its Leases and Deployments show it.

    `renewed` is when an operator last renewed a Lease, and None if no Lease exists. `deployment` is `NAMESPACE/NAME`, or
    empty if there is none; `problem` quotes why its pods do not run.
    """

    renewed: float | None = None
    deployment: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class ClusterFacts:
    """What was observed in a cluster. `error` is set if the API server gave no usable answer.

    `absent` are the kinds that the cluster lacks. `outdated` are those whose definition lacks a field of this version, as
    "Kind: path of the field". `operator` is None if the user may not read Leases. `named` is the endpoint that the user
    asked for, as `NAMESPACE/NAME`.
    """

    now: float
    url: str = ""
    error: str = ""
    absent: tuple[str, ...] = ()
    outdated: tuple[str, ...] = ()
    operator: OperatorFacts | None = None
    endpoints: tuple[EndpointFacts, ...] = ()
    named: str = ""
