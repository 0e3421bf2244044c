"""The sidecar's settings: parsed once, frozen, and passed on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from llmendpoint_common.contracts.ollama import OLLAMA_PORT
from llmendpoint_common.contracts.sidecar import ADMIN_PORT, PROXY_PORT
from llmendpoint_common.process.flags import Flags
from llmendpoint_common.process.logs import parse_level
from llmendpoint_common.process.units import Address, parse_address, parse_duration, parse_positive

_EXAMPLES = """examples:
  python -m llmendpoint_sidecar
      in front of the Ollama of this machine: clients use :11435, metrics are on :8001/metrics
  python -m llmendpoint_sidecar --listen 127.0.0.1:8080 --upstream http://127.0.0.1:11434 --config models.json
      and bring the models that models.json declares: {"models": [{"name": "llama3.2:3b"}]}
"""


@dataclass(frozen=True)
class Settings:
    """Addresses, and times in seconds."""

    listen: Address
    upstream: Address
    admin_listen: Address
    config: Path | None
    parallel: int
    workers: int
    keys: list[Path]
    tls_cert: Path | None
    tls_key: Path | None
    exporter: bool
    connect_timeout: float
    first_byte_timeout: float
    idle_timeout: float
    drain_delay: float
    drain_timeout: float
    log_level: str
    access_log: bool
    otlp_endpoint: str | None


def parse_upstream(text: str) -> Address:
    """Return the address of `http://HOST:PORT`."""
    parts = urlsplit(text)
    if parts.scheme != "http" or not parts.hostname or parts.path not in ("", "/"):
        raise ValueError(f"{text!r} is not an upstream; write it like http://127.0.0.1:{OLLAMA_PORT}")
    return Address(parts.hostname, parts.port or 80)


def parse_endpoint(text: str) -> str:
    """Return the base URL of a collector, to which /v1/traces and /v1/metrics are added."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{text!r} is not a URL; write it like http://127.0.0.1:4318")
    return text.rstrip("/")


def parse_settings(arguments: Sequence[str] | None = None) -> Settings:
    """Return the settings of a command line; ends the process with 2 where one is wrong."""
    flags = Flags("llmendpoint_sidecar", "Metering proxy in front of one Ollama.", _EXAMPLES)
    addresses = flags.group("addresses")
    addresses.option("listen", parse_address, Address(None, PROXY_PORT), "where clients connect")
    addresses.option("upstream", parse_upstream, Address("127.0.0.1", OLLAMA_PORT), "Ollama's URL",
                     shown=f"http://127.0.0.1:{OLLAMA_PORT}")  # fmt: skip
    addresses.option("admin-listen", parse_address, Address(None, ADMIN_PORT), "where metrics and status are served")
    addresses.option(
        "workers", parse_positive, 1, "processes that share the port, one a core; each counts limits alone"
    )
    addresses.switch("exporter", "no proxy: watch Ollama and serve metrics, where clients keep its address")
    models = flags.group("models")
    models.option("config", Path, None, "JSON file of models; watched; without it nothing is brought")
    models.option("parallel", parse_positive, 1, "requests that Ollama runs at once a model (OLLAMA_NUM_PARALLEL)")
    access = flags.group("access")
    access.option("keys", Path, [], "folder of API keys, a file a tenant; watched; repeatable; none: no key is asked",
                  action="append")  # fmt: skip
    access.option("tls-cert", Path, None, "certificate chain (PEM) for clients; read anew when it changes")
    access.option("tls-key", Path, None, "its private key (PEM)")
    times = flags.group("times (250ms, 15s, 1h30m)")
    times.option("connect-timeout", parse_duration, 5.0, "until the upstream accepts", shown="5s")
    times.option("first-byte-timeout", parse_duration, 600.0, "from the request's end to the response", shown="10m")
    times.option("idle-timeout", parse_duration, 120.0, "between two pieces of a response", shown="2m")
    times.option("drain-delay", parse_duration, 5.0, "after SIGTERM: still accept, while not ready", shown="5s")
    times.option("drain-timeout", parse_duration, 280.0, "then: let streams finish", shown="4m40s")
    logs = flags.group("logs")
    logs.option("log-level", parse_level, "info", "debug, info, warning or error")
    logs.switch("access-log", "one JSON object a request on stdout, without content")
    logs.option(
        "otlp-endpoint", parse_endpoint, None, "collector for spans and metrics over OTLP/HTTP, as http://HOST:4318"
    )
    settings = Settings(**vars(flags.parse(arguments)))
    if (settings.tls_cert is None) != (settings.tls_key is None):
        flags.refuse("--tls-cert and --tls-key go together")
    if settings.exporter and settings.workers > 1:
        flags.refuse("--exporter carries no traffic: it has no --workers")
    return settings
