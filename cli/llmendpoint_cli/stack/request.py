"""Options of `llmendpoint up`, as typed values."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from llmendpoint_common.contracts.ollama import OLLAMA_PORT
from llmendpoint_common.contracts.sidecar import ADMIN_PORT, PROXY_PORT
from llmendpoint_common.process.units import LOCALHOST, Address

DASHBOARD_PORT, PROMETHEUS_PORT = 3001, 9090
#: Names of upstreams are parts of file names and labels of metrics.
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?")
_OLLAMA = "OLLAMA_"
_SECRET = ("OLLAMA_API_KEY",)
_TENANT = re.compile(r"[-._a-zA-Z0-9]{1,253}")


class NamedUrl(NamedTuple):
    """An Ollama: its name in the dashboard and in metrics, and its base URL."""

    name: str
    url: str

    def __str__(self) -> str:
        return f"{self.name}={self.url}"


class KeyFile(NamedTuple):
    """A file with the API key of a tenant."""

    tenant: str
    path: Path

    def __str__(self) -> str:
        return f"{self.tenant}={self.path}"


@dataclass(frozen=True)
class Request:
    """The options of `up`. An address that is None has its default, and another port if that is in use.

    `manifest` is the digest of the file of `-f`: a changed file is another request.
    """

    upstreams: tuple[NamedUrl, ...] = ()
    simulator: bool = False
    file: Path | None = None
    manifest: str = ""
    keys: tuple[KeyFile, ...] = ()
    listen: Address | None = None
    metrics_listen: Address | None = None
    dashboard_listen: Address | None = None
    prometheus_listen: Address | None = None
    dashboard: bool = True
    prometheus: bool = True
    traffic: float | None = None

    def document(self) -> dict[str, Any]:
        """Return the options by name, as texts, for `stack.json` and for a comparison with another request."""
        values: dict[str, Any] = {
            "--upstream": [str(upstream) for upstream in self.upstreams],
            "--simulator": self.simulator,
            "--file": None if self.file is None else str(self.file),
            "content of --file": self.manifest,
            "--key": [str(key) for key in self.keys],
            "--listen": self.listen and str(self.listen),
            "--metrics-listen": self.metrics_listen and str(self.metrics_listen),
            "--dashboard-listen": self.dashboard_listen and str(self.dashboard_listen),
            "--prometheus-listen": self.prometheus_listen and str(self.prometheus_listen),
            "--no-dashboard": not self.dashboard,
            "--no-prometheus": not self.prometheus,
            "--traffic": self.traffic and f"{self.traffic:g}",
        }
        return {name: value for name, value in values.items() if value}


def options_of(document: Mapping[str, Any]) -> list[str]:
    """Return the command line of the options in a document of a request. Paths in it are absolute."""
    words = []
    for name, value in document.items():
        if not name.startswith("--"):
            continue
        if value is True:
            words.append(name)
        else:
            words += [f"{name}={item}" for item in (value if isinstance(value, list) else [value])]
    return words


def variables_of_ollama(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that choose and configure the Ollama of a stack, without the secret ones."""
    return {
        name: value
        for name, value in sorted(environment.items())
        if name.startswith(_OLLAMA) and name not in _SECRET and value
    }


def up_command(document: Mapping[str, Any], environment: Mapping[str, str]) -> str:
    """Return the command for a shell that starts the stack of a document of a request, with these variables."""
    variables = [f"{name}={shlex.quote(value)}" for name, value in environment.items()]
    return " ".join([*variables, shlex.join(["llmendpoint", "up", *options_of(document)])])


def differences(running: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """Return the options that differ between the stack that runs and a request, each as a phrase."""
    found = []
    for name in dict.fromkeys((*running, *wanted)):
        before, now = running.get(name), wanted.get(name)
        if before == now:
            continue
        if name.startswith("content"):
            found.append("the file has changed")
        else:
            found.append(f"{name} was {_shown(before)} and is now {_shown(now)}")
    return found


def parse_upstream(text: str) -> NamedUrl:
    """Return the upstream in `NAME=URL` or `URL`, whose name is then `ollama`."""
    name, separator, url = text.partition("=")
    if not separator:
        name, url = "ollama", text
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} is not a name of an upstream; use lowercase letters, digits and dashes, as in "
            f"gpu1=http://127.0.0.1:{OLLAMA_PORT}"
        )
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname or parts.path not in ("", "/") or parts.username is not None:
        raise ValueError(
            f"{url!r} is not the URL of an Ollama; write it like gpu1=http://127.0.0.1:{OLLAMA_PORT}, without a path"
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return NamedUrl(name, f"http://{host}:{parts.port or 80}")


def parse_key(text: str) -> KeyFile:
    """Return the tenant and the file in `TENANT=FILE`. The file is checked when it is used."""
    tenant, separator, path = text.partition("=")
    if not separator or not _TENANT.fullmatch(tenant) or tenant.startswith(".") or not path:
        raise ValueError(f"{text!r} does not name a file of a tenant; write it like team-a=keys/team-a.txt")
    return KeyFile(tenant, Path(path).expanduser().absolute())


def default_address(name: str) -> Address:
    """Return the default address of an option such as `listen`: loopback."""
    ports = {
        "listen": PROXY_PORT,
        "metrics_listen": ADMIN_PORT,
        "dashboard_listen": DASHBOARD_PORT,
        "prometheus_listen": PROMETHEUS_PORT,
    }
    return Address(LOCALHOST, ports[name])


def _shown(value: object) -> str:
    if not value:
        return "not set"
    if value is True:
        return "set"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
