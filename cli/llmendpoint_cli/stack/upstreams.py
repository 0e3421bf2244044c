"""Chooses the model servers of the stack: those that were named, the Ollama of this machine, or the simulator."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import urlsplit

from llmendpoint_cli.stack.health import foreign_answer, ollama_version
from llmendpoint_cli.stack.request import NamedUrl, Request, default_address
from llmendpoint_cli.upstream import simulated_parallel
from llmendpoint_common.contracts.ollama import OLLAMA_PORT
from llmendpoint_common.diagnosis.host import port_owner
from llmendpoint_common.process.units import Address

_DEFAULT_URL = f"http://127.0.0.1:{OLLAMA_PORT}"
#: The ports of Ollama's own client if OLLAMA_HOST has a scheme and no port.
_PORTS = {"http": 80, "https": 443}
#: Lower ports are for root only.
_FIRST_PORT = 1024
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Upstream(NamedTuple):
    """A model server. Without `is_running`, the stack starts it. `program` is the path of Ollama, or empty.

    `parallel` is the number of requests that it runs at the same time for each model, or 0 if it does not report it.
    """

    name: str
    url: str
    is_running: bool = True
    simulated: bool = False
    program: str = ""
    parallel: int = 0


def choose_upstreams(request: Request, say: Callable[[str], None]) -> list[Upstream]:
    """Return the model servers of a stack, and say which they are and why."""
    if request.upstreams:
        return [_named(upstream, say) for upstream in request.upstreams]
    url = url_of_machine(os.environ.get("OLLAMA_HOST", ""), (request.listen or default_address("listen")).port)
    if request.simulator:
        say("model server: the simulator, as --simulator asks; its responses are made up, and so are its times")
        return [_simulator(url)]
    version = ollama_version(url)
    parallel = simulated_parallel(url) if version else 0
    if parallel:
        # Another stack, or `llmendpoint simulate`, has the port. Its numbers must not be taken for those of a model.
        say(f"model server: the simulator that runs at {url}; its responses are made up, and so are its times")
        return [Upstream("simulator", url, simulated=True, parallel=parallel)]
    if version:
        say(f"model server: the Ollama {version} at {url}")
        return [Upstream("ollama", url)]
    program = shutil.which("ollama")
    if program is not None and urlsplit(url).hostname in _LOOPBACK:
        say(f"model server: Ollama is installed and does not run, so it is started ({program} serve)")
        return [Upstream("ollama", url, is_running=False, program=program)]
    say(
        f"model server: the simulator, because no Ollama answers at {url}; its responses are made up, and so are its "
        "times (install Ollama from https://ollama.com/download, or name another one with --upstream NAME=URL)"
    )
    return [_simulator(url)]


def _named(upstream: NamedUrl, say: Callable[[str], None]) -> Upstream:
    version = ollama_version(upstream.url)
    parallel = simulated_parallel(upstream.url) if version else 0
    if version:
        what = "the simulator" if parallel else f"the Ollama {version}"
        say(f"model server {upstream.name}: {what} at {upstream.url}")
    elif foreign := foreign_answer(upstream.url):
        say(f"model server {upstream.name}: {foreign}; the proxy connects when Ollama listens there")
    else:
        say(f"model server {upstream.name}: nothing answers at {upstream.url} yet; the proxy connects when it does")
    return Upstream(upstream.name, upstream.url, simulated=parallel > 0, parallel=parallel)


def _simulator(url: str) -> Upstream:
    """Return the simulator, at the address of this machine's Ollama if every user can listen on its port."""
    parts = urlsplit(url)
    is_usable = parts.hostname in _LOOPBACK and parts.port is not None and parts.port >= _FIRST_PORT
    address = f"http://{parts.netloc}" if is_usable else _DEFAULT_URL
    return Upstream("simulator", address, is_running=False, simulated=True)


def url_of_machine(host: str, proxy_port: int) -> str:
    """Return the URL of this machine's Ollama: that of OLLAMA_HOST, as Ollama's own client reads it, or the default.

    The address of our proxy is not used. Clients have it in OLLAMA_HOST, so that their requests are metered.
    """
    # https://github.com/ollama/ollama/blob/v0.17.4/envconfig/config.go, Host
    text = host.strip().strip("\"'").strip()
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "http", text
    default_port = _PORTS.get(scheme if separator else "", OLLAMA_PORT)
    parts = urlsplit(f"//{rest}" if rest.count(":") < 2 or rest.startswith("[") else f"//[{rest}]")
    try:
        port = default_port if parts.port is None else parts.port
    except ValueError:
        return _DEFAULT_URL
    # A server listens on 0.0.0.0 or [::]; its clients connect to the loopback address.
    name = parts.hostname if parts.hostname not in (None, "0.0.0.0", "::") else "127.0.0.1"
    if name in _LOOPBACK and (port == proxy_port or _is_our_proxy(port)):
        return _DEFAULT_URL
    return f"{scheme}://{Address(name, port)}"


def _is_our_proxy(port: int) -> bool:
    """Return whether the program on a port of this machine is a metering sidecar, perhaps of another stack."""
    owner = port_owner(port)
    return owner is not None and "llmendpoint_sidecar" in owner.command.split()
