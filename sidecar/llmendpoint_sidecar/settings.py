"""Settings of the sidecar, parsed once from flags and environment variables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from llmendpoint_common.api import defaults
from llmendpoint_common.contracts.ollama import OLLAMA_PORT
from llmendpoint_common.contracts.sidecar import ADMIN_PORT, ENVIRONMENT_PREFIX, MIN_STALL_SECONDS, PROXY_PORT
from llmendpoint_common.diagnosis.places import leads_to
from llmendpoint_common.process.flags import Flags, Group
from llmendpoint_common.process.logs import parse_level
from llmendpoint_common.process.units import LOCALHOST, Address, parse_address, parse_duration, parse_positive

_EXAMPLES = """who can reach the sidecar:
  with localhost in --listen and --admin-listen, as by default
      programs on this machine, over 127.0.0.1 and ::1. Requests whose Host is not a name of this machine get 403, by
      the same rules as in Ollama, because a web page can give this machine a name of its own (DNS rebinding).
      allowedHosts in the configuration file replaces the names of this machine; "*" allows every name.
  with --listen :11435
      everyone who can reach this machine. Without --keys, they can use every model, and pull, push, create, copy and
      delete models unless the configuration file has "modelManagement": "Forbidden". With --keys, they need a key.
  with --admin-listen :8001
      everyone who can reach this machine can read metrics, the status, and the records of the last requests (tenant,
      model, times and token counts, but no content and no keys). No key is needed.

examples:
  python -m llmendpoint_sidecar
      run in front of the Ollama on this machine, for clients on this machine: they use port 11435, and metrics are at
      http://localhost:8001/metrics
  python -m llmendpoint_sidecar --listen :11435 --keys keys/
      also serve clients on other machines; each needs a key, which is the content of a file in keys/
  python -m llmendpoint_sidecar --listen 127.0.0.1:8080 --upstream http://127.0.0.1:11434 --config config.json
      also pull and load the models in config.json: {"models": [{"name": "llama3.2:3b"}]}

exit codes: 0 drained, 1 failed, 2 invalid option or configuration file, 130 interrupted twice
"""


@dataclass(frozen=True)
class Settings:
    """Settings of a sidecar. Times are in seconds."""

    listen: Address
    upstream: Address
    admin_listen: Address
    config: Path | None
    state_folder: Path | None
    parallel: int
    workers: int
    worker_timeout: float
    keys: list[Path]
    tls_cert: Path | None
    tls_key: Path | None
    exporter: bool
    connect_timeout: float
    first_byte_timeout: float
    idle_timeout: float
    keep_alive_timeout: float
    stall_after: float
    stall_restart_file: Path | None
    drain_delay: float
    drain_timeout: float
    log_level: str
    access_log: bool
    otlp_endpoint: str | None


def parse_upstream(text: str) -> Address:
    """Return the address in a URL such as `http://127.0.0.1:11434`."""
    parts = urlsplit(text)
    if parts.scheme != "http" or not parts.hostname or parts.path not in ("", "/"):
        raise ValueError(f"{text!r} is not the URL of an Ollama; write it like http://127.0.0.1:{OLLAMA_PORT}")
    return Address(parts.hostname, parts.port or 80)


def parse_endpoint(text: str) -> str:
    """Return the base URL of an OTLP collector. The exporter appends `/v1/traces` and `/v1/metrics`."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{text!r} is not a URL; write it like http://127.0.0.1:4318")
    return text.rstrip("/")


def parse_worker_timeout(text: str) -> float:
    """Return the seconds of a duration of at least one second."""
    seconds = parse_duration(text)
    if seconds < 1:
        raise ValueError(f"{text!r} is too short: a worker that is only busy would be replaced; use at least 1s")
    return seconds


def parse_stall_after(text: str) -> float:
    """Return the seconds of a duration of at least one second."""
    seconds = parse_duration(text)
    if seconds < MIN_STALL_SECONDS:
        raise ValueError(f"{text!r} is too short: a healthy Ollama would count as hung; use at least 1s")
    return seconds


def command_line(program: str = "llmendpoint_sidecar") -> Flags:
    """Return the options of the sidecar. `program` is the name in messages."""
    flags = Flags(program, ENVIRONMENT_PREFIX, "Run the metering proxy in front of one Ollama.", _EXAMPLES)
    addresses = flags.group("addresses")
    addresses.option("listen", parse_address, f"{LOCALHOST}:{PROXY_PORT}", "address for clients; without a host: every "
                     "interface")  # fmt: skip
    addresses.option("upstream", parse_upstream, f"http://127.0.0.1:{OLLAMA_PORT}", "base URL of Ollama", value="URL")
    addresses.option("admin-listen", parse_address, f"{LOCALHOST}:{ADMIN_PORT}", "address for metrics, status and "
                     "probes; without a host: every interface")  # fmt: skip
    addresses.option(
        "workers",
        parse_positive,
        "1",
        "number of processes that share the port; each process counts the limits separately",
    )
    addresses.option("worker-timeout", parse_worker_timeout, "10s", "time after which one of several processes that no "
                     "longer answers is replaced, at least 1s; its streams are cut off", value="DURATION")  # fmt: skip
    addresses.switch(
        "exporter", "do not run the proxy: clients connect to Ollama, and there are no metrics of requests"
    )
    models = flags.group("models")
    models.option("config", Path, None, "JSON file with models, limits and tenants, reloaded when it changes "
                  "(default: no models and no limits)")  # fmt: skip
    models.option("state-folder", Path, None, "folder in which the sidecar remembers how it created models, created "
                  "if needed; beside the models, so that it lasts as long (default: only in memory)")  # fmt: skip
    models.option(
        "parallel",
        parse_positive,
        "1",
        "number of requests that Ollama runs at the same time for each model (OLLAMA_NUM_PARALLEL)",
    )
    models.option("stall-restart-file", Path, None, "file that is created to request a restart of a hung Ollama, for "
                  "the liveness probe of its container; if not set, a hung Ollama is only reported")  # fmt: skip
    access = flags.group("access")
    access.option("keys", Path, [], "folder of API keys with one file per tenant, reloaded when it changes; if not "
                  "set, no key is required")  # fmt: skip
    access.option(
        "tls-cert", Path, None, "file with the certificate chain (PEM) of the proxy, reloaded when it changes"
    )
    access.option("tls-key", Path, None, "file with the private key (PEM) of --tls-cert")
    _time_options(flags.group("times (250ms, 15s, 1h30m)"))
    logs = flags.group("logs")
    logs.option("log-level", parse_level, "info", "debug, info, warning or error")
    logs.switch("access-log", "write one JSON object per request, without content, to stdout")
    logs.option("otlp-endpoint", parse_endpoint, None, "base URL of the collector that receives spans and metrics "
                "over OTLP/HTTP, such as http://127.0.0.1:4318", value="URL")  # fmt: skip
    return flags


def _time_options(times: Group) -> None:
    times.option(
        "connect-timeout", parse_duration, defaults.CONNECT_TIMEOUT, "maximum time until Ollama accepts a connection"
    )
    times.option("first-byte-timeout", parse_duration, defaults.FIRST_BYTE_TIMEOUT, "maximum time from the end of a "
                 "request to the first byte of its response; not for pulls, pushes, creates and blobs")  # fmt: skip
    times.option("idle-timeout", parse_duration, defaults.IDLE_TIMEOUT, "maximum time between two pieces of a "
                 "response; not for pulls, pushes, creates and blobs")  # fmt: skip
    times.option("keep-alive-timeout", parse_duration, defaults.KEEP_ALIVE_TIMEOUT, "maximum time that a client's "
                 "connection stays open without a request; behind a load balancer, longer than its own")  # fmt: skip
    times.option("stall-after", parse_stall_after, defaults.STALL_AFTER, "time without a byte from Ollama, while "
                 "requests wait, after which Ollama counts as hung, at least 1s; longer than any healthy silence "
                 "(load of a model, response with stream: false); the section stall of --config replaces it",
                 value="DURATION")  # fmt: skip
    times.option("drain-delay", parse_duration, "5s", "time after SIGTERM during which requests are still accepted, "
                 "although the sidecar is not ready; afterwards also the time after which idle connections are "
                 "closed")  # fmt: skip
    times.option("drain-timeout", parse_duration, "4m40s", "time after --drain-delay for requests to finish")


def parse_settings(arguments: Sequence[str] | None = None, program: str = "llmendpoint_sidecar") -> Settings:
    """Return the settings of a command line. An invalid setting ends the process with exit code 2."""
    flags = command_line(program)
    settings = Settings(**vars(flags.parse(arguments)))
    if (settings.tls_cert is None) != (settings.tls_key is None):
        flags.refuse("set both --tls-cert and --tls-key, or neither")
    if settings.exporter and settings.workers > 1:
        flags.refuse("--exporter cannot be combined with --workers, because an exporter does not carry requests")
    if not settings.exporter and leads_to(str(settings.upstream), settings.listen):
        flags.refuse(
            f"--upstream http://{settings.upstream} is the address of --listen, so the proxy would send its requests "
            "to itself; set --upstream to the address of Ollama"
        )
    return settings
