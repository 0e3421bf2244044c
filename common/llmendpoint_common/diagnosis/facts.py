"""Facts about a machine and about a cluster, from which the rules derive findings.

A fact that was not observed is None. Facts contain no judgement, no clock and no I/O, so a test states
them as values. Times are Unix times in seconds, sizes are in bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from llmendpoint_common.contracts.sidecar import SidecarStatus


class SilenceKind(StrEnum):
    """Reasons for which a server gave no usable answer."""

    #: No process listens on the port.
    REFUSED = "refused"
    #: The connection was accepted, but no answer arrived in time.
    TIMEOUT = "timeout"
    #: Something else than the expected server answers.
    FOREIGN = "foreign"
    #: The address leads back to a proxy through which the request has passed.
    LOOP = "loop"
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

    `context` is the number of tokens of its context, and `longest_context` the number for which it was trained.
    `wanted_context` is the number that its parameters, the stack or the user ask for, and `wanted_by` says who.
    `gpu_layers` is the number of layers to which its parameter `num_gpu` limits the GPU.
    """

    name: str
    size: int
    vram: int
    context: int | None = None
    longest_context: int | None = None
    wanted_context: int | None = None
    wanted_by: str = ""
    gpu_layers: int | None = None


@dataclass(frozen=True, slots=True)
class OllamaFacts:
    """An Ollama, or the simulator in its place.

    `wanted_models` are the names of models that it should have. `skew` is how far its clock is ahead of ours, in
    seconds. `is_local` is whether it runs on this machine.
    """

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
    """A sidecar. `is_expected` is whether it should run, according to a stack, a setting or an option."""

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
    #: Unix time of its start, by its own clock. Only known if it has no targets.
    started: float | None = None


@dataclass(frozen=True, slots=True)
class PortOwner:
    """A process that listens on a port. `pid` is None if it belongs to another user."""

    pid: int | None = None
    command: str = ""


@dataclass(frozen=True, slots=True)
class PortFacts:
    """A port that one of our processes needs, and on which another process listens.

    `option` is the option of `llmendpoint up` that selects another port. `is_in_use` is whether the process should have
    the port now, and not only when the stack is started.
    """

    port: int
    needed_by: str
    owner: PortOwner
    option: str = ""
    is_in_use: bool = True


@dataclass(frozen=True, slots=True)
class ProcessFacts:
    """A process that `llmendpoint up` started.

    `url` is where it answers, if it does. `restarts` is how often it was started again since `up`. `exit_code` is how
    it last ended, negative for a signal. `last_words` is the last line of its log. `is_supervised` is whether the
    process that starts it again still runs. `ports` are the ports of this machine on which it listens.
    """

    name: str
    is_running: bool
    url: str = ""
    since: float | None = None
    restarts: int = 0
    exit_code: int | None = None
    last_words: str = ""
    is_supervised: bool = True
    ports: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class DiskFacts:
    """The file system with the models."""

    path: str
    free: int
    total: int


@dataclass(frozen=True, slots=True)
class FullDisk:
    """The file system with the state folder of a stack, if it takes no more files. `reason` is that of the system."""

    folder: str
    reason: str


@dataclass(frozen=True, slots=True)
class OutdatedUnit:
    """A unit of systemd that `llmendpoint up --service` of an earlier version wrote.

    `problem` is the end of a sentence about it, and `command` writes it again with the same options. `is_broken` is
    whether the stack does not start with it, or will not after an update.
    """

    path: str
    problem: str
    command: str
    is_broken: bool


@dataclass(frozen=True, slots=True)
class MachineFacts:
    """Observations on one machine.

    `now` is the time of the observation. `clock_step` is the number of seconds by which the wall clock moved against
    the monotonic clock during the observation. `has_gpu` is whether the machine has a GPU that Ollama could use.
    `file_limit` is the number of files that the sidecar may open. `is_macos` decides between commands. `up` is the
    command that starts the stack of this machine again, with its options. `state_folder` is the state folder of the
    stack, or empty if it is the usual one.
    """

    now: float
    ollamas: tuple[OllamaFacts, ...] = ()
    sidecars: tuple[SidecarFacts, ...] = ()
    prometheus: PrometheusFacts | None = None
    ports: tuple[PortFacts, ...] = ()
    processes: tuple[ProcessFacts, ...] = ()
    disk: DiskFacts | None = None
    full_disk: FullDisk | None = None
    unit: OutdatedUnit | None = None
    file_limit: int | None = None
    has_gpu: bool | None = None
    clock_step: float = 0.0
    is_macos: bool = False
    up: str = "llmendpoint up"
    state_folder: str = ""

    @property
    def servers(self) -> tuple[OllamaFacts | SidecarFacts | PrometheusFacts, ...]:
        """All servers that were asked."""
        return (*self.ollamas, *self.sidecars, *([self.prometheus] if self.prometheus is not None else []))


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

    `is_serving` is whether an operator renews a Lease. `last_seen` is when one was last renewed, or None if no Lease
    exists. `deployment` is the name of the operator's Deployment in `namespace`, or empty. `replicas`
    is the number of pods that it should have. `problem` quotes why they do not run.
    """

    is_serving: bool
    last_seen: float | None = None
    namespace: str = ""
    deployment: str = ""
    replicas: int = 1
    problem: str = ""


@dataclass(frozen=True, slots=True)
class ClusterFacts:
    """Observations in a cluster. `error` is set if the API server gave no usable answer.

    `absent` are the kinds that the cluster lacks. `outdated` are those whose definition lacks a field of this version,
    as "Kind: path of the field". `operator` is None if the user may not read Leases. `named` is the endpoint that the
    user asked for, as `NAMESPACE/NAME`. `unread` says what the user may not read.
    """

    now: float
    url: str = ""
    error: str = ""
    absent: tuple[str, ...] = ()
    outdated: tuple[str, ...] = ()
    operator: OperatorFacts | None = None
    endpoints: tuple[EndpointFacts, ...] = ()
    named: str = ""
    unread: tuple[str, ...] = ()
