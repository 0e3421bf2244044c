"""Plans a stack: which programs run, with which command lines, files and addresses. Starts and writes nothing."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from llmendpoint_cli.manifest.endpoint import Endpoint
from llmendpoint_cli.manifest.left_out import left_out
from llmendpoint_cli.stack.folders import Folders
from llmendpoint_cli.stack.ports import Ports
from llmendpoint_cli.stack.prometheus import prometheus_command, prometheus_config
from llmendpoint_cli.stack.request import Request, default_address, variables_of_ollama
from llmendpoint_cli.stack.state import Kind, Program, SidecarAddress, Stack
from llmendpoint_cli.stack.tenants import Chosen, choose
from llmendpoint_cli.stack.traffic import traffic_programs
from llmendpoint_cli.stack.upstreams import Upstream
from llmendpoint_cli.upstream import SIMULATED_PARALLEL, ollama_parallel
from llmendpoint_common.api.endpoint.metering import MeteringMode
from llmendpoint_common.api.translate.ollama_environment import ollama_environment
from llmendpoint_common.api.translate.sidecar_arguments import SidecarAddresses, sidecar_arguments
from llmendpoint_common.api.translate.sidecar_config import config_text, sidecar_config
from llmendpoint_common.contracts.ollama import OLLAMA_PORT
from llmendpoint_common.contracts.sidecar import PROXY_PORT, SidecarConfig
from llmendpoint_common.diagnosis.places import leads_to, place
from llmendpoint_common.process.errors import InputError, StackError
from llmendpoint_common.process.units import LOCALHOST, Address
from llmendpoint_common.process.version import VERSION

#: How long a sidecar lets streams finish when the stack ends.
DRAIN_SECONDS = 25
#: The variables of Ollama that stay those of this machine.
_OF_MACHINE = ("OLLAMA_HOST", "OLLAMA_MODELS", "HOME", "SSL_CERT_DIR")

#: The variables of Ollama that fields of `spec.ollama` set.
_VARIABLE_OF = {
    "numParallel": "OLLAMA_NUM_PARALLEL",
    "maxLoadedModels": "OLLAMA_MAX_LOADED_MODELS",
    "maxQueue": "OLLAMA_MAX_QUEUE",
    "contextLength": "OLLAMA_CONTEXT_LENGTH",
    "keepAlive": "OLLAMA_KEEP_ALIVE",
    "flashAttention": "OLLAMA_FLASH_ATTENTION",
    "kvCacheType": "OLLAMA_KV_CACHE_TYPE",
}


@dataclass(frozen=True)
class Plan:
    """A stack, and the files that have to exist before it starts: configuration files by name, API keys by tenant.

    `token` is whether the dashboard needs a file with a token.
    """

    stack: Stack
    files: dict[str, str]
    keys: dict[str, Path] = field(default_factory=dict)
    token: bool = False


def make_plan(
    request: Request,
    endpoint: Endpoint | None,
    upstreams: Sequence[Upstream],
    folders: Folders,
    say: Callable[[str], None],
) -> Plan:
    """Return the plan of a stack. Raises StackError, for example if a port is in use."""
    return _Planner(request, endpoint, folders, say).plan(upstreams)


class _Planner:
    """Collects the programs and files of a plan."""

    def __init__(
        self, request: Request, endpoint: Endpoint | None, folders: Folders, say: Callable[[str], None]
    ) -> None:
        self._request = request
        self._endpoint = endpoint
        self._spec = None if endpoint is None else endpoint.spec
        self._folders = folders
        self._ports = Ports(say)
        self._say = say
        self._programs: list[Program] = []
        self._sidecars: list[SidecarAddress] = []
        self._files: dict[str, str] = {}
        self._token = False

    def plan(self, upstreams: Sequence[Upstream]) -> Plan:
        """Return the plan for these upstreams."""
        self._refuse_open_proxy_without_keys()
        self._ports.reserve(range(PROXY_PORT, PROXY_PORT + len(upstreams)))
        upstreams = [self._server(upstream) for upstream in upstreams]
        for upstream in upstreams:
            self._sidecar(upstream, alone=len(upstreams) == 1)
        if not self._is_exporter:
            self._refuse_loops()
        stack = self._stack(upstreams)
        chosen = self._chosen(stack)
        prometheus_url = self._prometheus()
        dashboard_url = self._dashboard(prometheus_url, chosen)
        if self._request.traffic is not None and chosen is not None:
            self._programs += traffic_programs(self._sidecars, self._traffic_arguments(chosen), chosen.model, self._say)
        stack = msgspec.structs.replace(stack, programs=tuple(self._programs), dashboard_url=dashboard_url,
                                        prometheus_url=prometheus_url,
                                        model=stack.model if chosen is None else chosen.model)  # fmt: skip
        keys = {key.tenant: key.path for key in self._request.keys}
        return Plan(stack, self._files, keys, self._token)

    def _stack(self, upstreams: Iterable[Upstream]) -> Stack:
        """Return the stack without its programs."""
        models = tuple(model.name for model in self._spec.models) if self._spec is not None else ()
        # Clients of an exporter connect to the model server itself, which has no limits of tenants.
        config = SidecarConfig() if self._spec is None or self._is_exporter else sidecar_config(self._spec)
        return Stack(
            VERSION,
            time.time(),
            self._request.document(),
            tuple(self._sidecars),
            (),
            left_out=tuple(self._left_out(upstreams)),
            model=models[0] if models else "",
            models=models,
            allowed_models={tenant.name: tenant.allowed_models for tenant in config.tenants},
            other_models=config.default_tenant.allowed_models,
            environment=variables_of_ollama(os.environ),
        )

    def _chosen(self, stack: Stack) -> Chosen | None:
        """Return the tenant and the model of the requests of the stack itself. None if no tenant may use its models."""
        try:
            chosen = choose(stack)
        except InputError as error:
            if self._request.traffic is not None:
                self._say(f"no traffic, because {error}")
            return None
        return Chosen("", chosen.model) if self._is_exporter else chosen

    def _refuse_open_proxy_without_keys(self) -> None:
        listen = self._request.listen
        needs_key = self._spec is not None and self._spec.metering.auth is not None
        if needs_key and not self._request.keys and listen is not None and not listen.is_loopback:
            raise StackError(
                f"--listen {listen} lets other machines connect, and metering.auth of the file asks for API keys, but "
                "none is given; name a file for each tenant with --key TENANT=FILE"
            )

    def _refuse_loops(self) -> None:
        """Raise StackError if an upstream is the address of a proxy of this stack, which is not in use yet."""
        host = (self._request.listen or default_address("listen")).host
        for sidecar in self._sidecars:
            for proxy in self._sidecars:
                if leads_to(sidecar.upstream_url, Address(host, place(proxy.proxy_url)[1])):
                    whose = "itself" if proxy is sidecar else f"of {proxy.name}"
                    raise StackError(
                        f"--upstream {sidecar.name}={sidecar.upstream_url} is the address at which the proxy {whose} "
                        "would listen, so requests would not reach an Ollama; name the address of an Ollama, or choose "
                        "another address of the proxy with --listen"
                    )

    def _server(self, upstream: Upstream) -> Upstream:
        """Add the program of a model server that does not run yet, and return its address."""
        if upstream.is_running:
            return upstream
        parts = urlsplit(upstream.url)
        address = self._ports.free(Address(parts.hostname, parts.port or OLLAMA_PORT))
        url = f"http://{address}"
        if upstream.simulated:
            command = _python("llmendpoint_simulator", f"--listen={address}", f"--parallel={self._parallel(upstream)}",
                              *self._simulated_models())  # fmt: skip
            self._programs.append(Program(upstream.name, Kind.SIMULATOR, command, str(address), f"{url}/api/version",
                                          f"{url}/api/version"))  # fmt: skip
        else:
            variables = {"OLLAMA_HOST": str(address), **self._ollama_variables()}
            command = (upstream.program, "serve")
            self._programs.append(Program(upstream.name, Kind.OLLAMA, command, str(address), f"{url}/api/version",
                                          f"{url}/api/version", variables))  # fmt: skip
        return upstream._replace(url=url)

    def _parallel(self, upstream: Upstream) -> int:
        """Return the number of requests that a model server runs at the same time for each model."""
        if upstream.parallel:
            return upstream.parallel
        if self._spec is not None:
            return self._spec.ollama.num_parallel
        if upstream.simulated:
            return SIMULATED_PARALLEL
        return ollama_parallel()

    def _simulated_models(self) -> list[str]:
        models = self._spec.models if self._spec else []
        return [f"--registry-model={model.name}" for model in models]

    @property
    def _is_exporter(self) -> bool:
        """Whether clients connect to the model server itself, which must not get an API key."""
        return self._spec is not None and self._spec.metering.mode is MeteringMode.EXPORTER

    def _sidecar(self, upstream: Upstream, *, alone: bool) -> None:
        request = self._request
        name = "sidecar" if alone else f"sidecar-{upstream.name}"
        first = not self._sidecars
        proxy = request.listen or default_address("listen")
        if not self._is_exporter:
            proxy = self._ports.free(proxy, is_given=first and request.listen is not None, is_further=not first)
        admin = self._ports.free(
            request.metrics_listen or default_address("metrics_listen"),
            is_given=first and request.metrics_listen is not None,
            is_further=not first,
        )
        config = self._folders.configs / f"{name}.json"
        arguments = self._sidecar_arguments(
            SidecarAddresses(str(proxy), str(admin), upstream.url), config, self._parallel(upstream)
        )
        admin_url = url_of(admin)
        if self._spec is not None:
            # Programs that we do not know may use the other models of this machine's Ollama.
            kept = msgspec.structs.replace(sidecar_config(self._spec), remove_undeclared=False)
            self._files[config.name] = config_text(kept)
            arguments.append(f"--state-folder={self._folders.configs / f'{name}-models'}")
        command = _python("llmendpoint_sidecar", *arguments)
        self._programs.append(Program(name, Kind.SIDECAR, command, str(admin if self._is_exporter else proxy),
                                      f"{admin_url}/readyz", f"{admin_url}/livez",
                                      stop_seconds=DRAIN_SECONDS + 5.0))  # fmt: skip
        proxy_url = upstream.url if self._is_exporter else url_of(proxy)
        self._sidecars.append(SidecarAddress(upstream.name, proxy_url, admin_url, upstream.url, upstream.simulated))

    def _sidecar_arguments(self, addresses: SidecarAddresses, config: Path, parallel: int) -> list[str]:
        keys = [str(self._folders.keys)] if self._request.keys else []
        if self._spec is None:
            arguments = [f"--listen={addresses.listen}", f"--admin-listen={addresses.admin_listen}",
                         f"--upstream={addresses.upstream}", f"--parallel={parallel}",
                         *(f"--keys={folder}" for folder in keys)]  # fmt: skip
        else:
            arguments = sidecar_arguments(self._spec, config_file=str(config), key_folders=keys, addresses=addresses)
            # A simulator that runs already does not have the number of the file.
            arguments = [*arguments, f"--parallel={parallel}"]
        # On one machine, no load balancer has to notice the end first. The last value of an option counts.
        return [*arguments, "--drain-delay=0", f"--drain-timeout={DRAIN_SECONDS}s"]

    def _prometheus(self) -> str:
        request = self._request
        program = shutil.which("prometheus")
        if not request.prometheus:
            return ""
        if program is None:
            self._say(
                "Prometheus: not found, so the dashboard has the last hour only (install Prometheus to keep 7 days)"
            )
            return ""
        address = self._ports.free(
            request.prometheus_listen or default_address("prometheus_listen"),
            is_given=request.prometheus_listen is not None,
        )
        self._files["prometheus.yml"] = prometheus_config(self._sidecars)
        command = prometheus_command(
            program, self._folders.configs / "prometheus.yml", self._folders.prometheus / "data", address
        )
        url = url_of(address)
        ready = f"{url}/-/ready"
        self._programs.append(
            Program("prometheus", Kind.PROMETHEUS, command, str(address), ready, ready, stop_seconds=15.0)
        )
        return url

    def _dashboard(self, prometheus_url: str, chosen: Chosen | None) -> str:
        request = self._request
        if not request.dashboard:
            return ""
        address = self._ports.free(
            request.dashboard_listen or default_address("dashboard_listen"),
            is_given=request.dashboard_listen is not None,
        )
        arguments = [str(self._folders.root), f"--listen={address}", f"--runs={self._folders.runs}"]
        for sidecar in self._sidecars:
            arguments += [
                f"--sidecar={sidecar.name}={sidecar.admin_url}",
                f"--load-url={sidecar.name}={sidecar.proxy_url}",
                f"--upstream={sidecar.name}={sidecar.upstream_url}",
            ]
            arguments += [f"--simulated={sidecar.name}"] if sidecar.simulated else []
        tenants = [key.tenant for key in request.keys] if chosen is None else [chosen.tenant]
        arguments += [f"--load-api-key-file={self._folders.keys / tenant}" for tenant in tenants[:1] if tenant]
        if prometheus_url:
            arguments.append(f"--prometheus={prometheus_url}")
        if not address.is_loopback:
            self._token = True
            arguments += ["--auth=token", f"--auth-token-file={self._folders.token}"]
        url = url_of(address)
        command = _python("llmendpoint_cli.doctor.dashboard", *arguments)
        self._programs.append(
            Program("dashboard", Kind.DASHBOARD, command, str(address), f"{url}/livez", f"{url}/livez")
        )
        return url

    def _traffic_arguments(self, chosen: Chosen) -> list[str]:
        key = [f"--api-key-file={self._folders.keys / chosen.tenant}"] if chosen.tenant else []
        return [f"--rate={self._request.traffic:g}", *key]

    def _ollama_variables(self) -> dict[str, str]:
        """Return the variables of Ollama that the file sets."""
        if self._spec is None:
            return {}
        variables = ollama_environment(self._spec, address="", models_folder="", home_folder="", ca_folder="")
        return {name: value for name, value in variables.items() if name not in _OF_MACHINE}

    def _left_out(self, upstreams: Iterable[Upstream]) -> list[str]:
        if self._endpoint is None:
            return []
        runs_already = any(upstream.is_running and not upstream.simulated for upstream in upstreams)
        given = self._endpoint.document.body["spec"].get("ollama") or {}
        variables = self._ollama_variables() if runs_already else {}
        asked = {_VARIABLE_OF.get(name, "") for name in given}
        asked |= {variable["name"] for variable in given.get("env") or []}
        variables = {name: value for name, value in variables.items() if name in asked}
        return list(left_out(self._endpoint, has_keys=bool(self._request.keys), ollama_variables=variables))


def _python(package: str, *arguments: str) -> tuple[str, ...]:
    """Return the command line of one of our programs."""
    return (sys.executable, "-m", package, *arguments)


def url_of(address: Address) -> str:
    """Return the URL with which this machine reaches an address that a program listens on."""
    host = address.host
    if host in (None, LOCALHOST, "0.0.0.0"):
        host = "127.0.0.1"
    elif host == "::":
        host = "::1"
    return f"http://{Address(host, address.port)}"
