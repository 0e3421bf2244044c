"""Settings of the dashboard, parsed once from flags and environment variables."""

from __future__ import annotations

import ipaddress
import re
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

from llmendpoint_common.contracts.ollama import OLLAMA_PORT
from llmendpoint_common.contracts.sidecar import ADMIN_PORT, PROXY_PORT
from llmendpoint_common.process.flags import Flags, choice, one_of
from llmendpoint_common.process.logs import parse_level
from llmendpoint_common.process.units import LOCALHOST, Address, parse_address, parse_duration, parse_positive

ENVIRONMENT_PREFIX = "LLMENDPOINT_DASHBOARD_"
DASHBOARD_PORT = 3001

_EXAMPLES = """who can use the dashboard:
  with localhost or 127.0.0.1 in --listen, as by default
      programs on this machine. Requests whose Host is not a name of this machine get 403, because a web page can give
      this machine a name of its own (DNS rebinding); --allowed-host allows more names.
  with another address
      everyone who can reach it and has the token (--auth token), or comes through the proxy in front (--auth header).
      Without either, the dashboard does not start, unless --allow-unauthenticated says that this is intended.

examples:
  python -m llmendpoint_dashboard --sidecar ollama=http://127.0.0.1:8001
      show the sidecar on this machine at http://127.0.0.1:3001
  python -m llmendpoint_dashboard --sidecar ollama=http://127.0.0.1:8001 --runs runs \\
      --load-url ollama=http://127.0.0.1:11435
      also show load tests, and start them from the page
  python -m llmendpoint_dashboard --cluster --listen :3001 --auth token --auth-token-file token
      show the endpoints and load tests of the cluster, to everyone who has the token

exit codes: 0 stopped by a signal, 1 failed, 2 invalid option, 130 interrupted twice
"""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}")
_HEADER = re.compile(r"[A-Za-z0-9-]{1,64}")
_HOST_NAME = re.compile(r"(\*\.)?[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\]|\*")
# A label as in RFC 1123: https://kubernetes.io/docs/concepts/overview/working-with-objects/names/
_NAMESPACE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class SidecarAddress:
    """A sidecar: its name, the base URL of its admin port, and whether its upstream is the simulator."""

    name: str
    url: str
    simulated: bool = False


class AuthMode(StrEnum):
    """How users are recognized."""

    NONE = "none"
    TOKEN = "token"  # noqa: S105 - not a password
    HEADER = "header"


@dataclass(frozen=True)
class Auth:
    """Who may use the dashboard. `header` is set by a proxy in front, whose addresses are in `proxies`."""

    mode: AuthMode = AuthMode.NONE
    token_file: Path | None = None
    header: str = ""
    proxies: tuple[IPNetwork, ...] = ()


@dataclass(frozen=True)
class Cluster:
    """The cluster that is watched. Without namespaces, all of them are."""

    namespaces: tuple[str, ...] = ()
    kubeconfig: Path | None = None
    context: str | None = None


@dataclass(frozen=True)
class LoadLimits:
    """Limits of the load tests that the page starts: longest duration in seconds, and most users or requests/s."""

    seconds: float = 3600.0
    concurrency: int = 256


@dataclass(frozen=True)
class Settings:
    """Settings of the dashboard. `load_urls` has the URL for clients of each sidecar that load tests may use.

    `load_api_key_file` has the API key of load tests whose form has none. `upstreams` has the URL of the Ollama behind
    a sidecar, if it is known.
    """

    listen: Address
    sidecars: tuple[SidecarAddress, ...] = ()
    prometheus: str | None = None
    runs: Path | None = None
    load_urls: Mapping[str, str] | None = None
    load_api_key_file: Path | None = None
    upstreams: Mapping[str, str] | None = None
    load_limits: LoadLimits = LoadLimits()
    cluster: Cluster | None = None
    auth: Auth = Auth()
    allowed_hosts: tuple[str, ...] = ()
    allow_unauthenticated: bool = False
    log_level: str = "info"

    @property
    def can_start_load_tests(self) -> bool:
        """Whether the page can start load tests."""
        return self.runs is not None and bool(self.load_urls) and self.cluster is None


def parse_named_url(text: str) -> tuple[str, str]:
    """Return the name and the base URL in NAME=URL. Raises ValueError if it has another form."""
    name, separator, url = text.partition("=")
    if not separator or not _NAME.fullmatch(name):
        raise ValueError(f"{text!r} is not a name and a URL; write it like ollama=http://127.0.0.1:{ADMIN_PORT}")
    return name, parse_url(url)


def parse_url(text: str) -> str:
    """Return the base URL of an HTTP server, without a slash at the end. Raises ValueError if it is not one."""
    parts = urlsplit(text)
    is_base = not parts.query and not parts.fragment and "@" not in parts.netloc
    if parts.scheme not in ("http", "https") or not parts.hostname or not is_base:
        raise ValueError(
            f"{text!r} is not a base URL without user and query; write it like http://127.0.0.1:{ADMIN_PORT}"
        )
    return text.rstrip("/")


def parse_network(text: str) -> IPNetwork:
    """Return a network such as `10.0.0.0/8`, or one address. Raises ValueError if it is neither."""
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{text!r} is not a network; write it like 10.0.0.0/8 or 127.0.0.1") from None


def parse_host_name(text: str) -> str:
    """Return a host name, with `*.` for all names below one. Raises ValueError if it is not one."""
    if not _HOST_NAME.fullmatch(text):
        raise ValueError(f"{text!r} is not a host name; write it like dashboard.example.com or *.example.com")
    return text


def command_line(program: str = "llmendpoint_dashboard") -> Flags:
    """Return the options of the dashboard. `program` is the name in messages."""
    flags = Flags(program, ENVIRONMENT_PREFIX, "Run the web dashboard.", _EXAMPLES)
    _source_options(flags)
    access = flags.group("access")
    access.option("listen", parse_address, f"{LOCALHOST}:{DASHBOARD_PORT}", "address of the dashboard; without a host: "
                  "every interface")  # fmt: skip
    access.option("auth", choice(AuthMode), AuthMode.NONE.value, f"how users are recognized: {one_of(AuthMode)}",
                  value="MODE")  # fmt: skip
    access.option("auth-token-file", Path, None, "file with the token for --auth token; white space around it is "
                  "ignored, and the file is read again when it changes", value="FILE")  # fmt: skip
    access.option("auth-header", _pattern(_HEADER, "a header name", "X-Forwarded-User"), "X-Forwarded-User",
                  "header with the user's name, which the proxy in front sets, for --auth header",
                  value="NAME")  # fmt: skip
    access.option("auth-proxy", parse_network, [], "address or network of the proxy in front, for --auth header; the "
                  "header is ignored if a request comes from another one", value="CIDR",
                  alias="auth-trusted-proxy")  # fmt: skip
    access.option("allowed-host", parse_host_name, [], "host name under which the dashboard is served, for example by "
                  "an Ingress; *.example.com allows all names below it, and * every name", value="NAME")  # fmt: skip
    access.switch("allow-unauthenticated", "start with --auth none on an address that other machines can reach")
    flags.group("logs").option("log-level", parse_level, "info", "lowest level: debug, info, warning or error")
    return flags


def _source_options(flags: Flags) -> None:
    machine = flags.group("machine")
    machine.option("sidecar", parse_named_url, [], "name of a sidecar, and base URL of its admin port, such as "
                   f"ollama=http://127.0.0.1:{ADMIN_PORT}", value="NAME=URL")  # fmt: skip
    machine.option("simulated", str, [], "name of a sidecar whose upstream is the simulator; the page has a notice",
                   value="NAME")  # fmt: skip
    machine.option("upstream", parse_named_url, [], "name of a sidecar, and base URL of its Ollama, such as "
                   f"ollama=http://127.0.0.1:{OLLAMA_PORT}; the doctor then also examines Ollama itself",
                   value="NAME=URL")  # fmt: skip
    machine.option("runs", Path, None, "folder of load test runs, one subfolder for each run", value="FOLDER")
    machine.option("load-url", parse_named_url, [], "name of a sidecar, and base URL of its port for clients, such as "
                   f"ollama=http://127.0.0.1:{PROXY_PORT}; with --runs, the page can start load tests of it",
                   value="NAME=URL")  # fmt: skip
    machine.option("load-api-key-file", Path, None, "file with the API key of load tests for which the page gives "
                   "none; it is read again for each of them", value="FILE")  # fmt: skip
    machine.option("max-load-duration", parse_duration, "1h", "longest load test that the page starts")
    machine.option("max-load-concurrency", parse_positive, "256", "highest number of users, or of requests per second, "
                   "of a load test that the page starts")  # fmt: skip
    history = flags.group("history")
    history.option("prometheus", parse_url, None, "base URL of Prometheus, for charts of up to 7 days; if absent, only "
                   "the last hour is known", value="URL")  # fmt: skip
    cluster = flags.group("cluster")
    cluster.switch("cluster", "show the LLMEndpoints and LoadTests of a cluster, and the sidecars of its endpoints")
    cluster.option("namespace", _pattern(_NAMESPACE, "the name of a namespace", "models"), [], "namespace to watch; if "
                   "absent, all namespaces are watched", value="NAME")  # fmt: skip
    cluster.option("kubeconfig", Path, None, "kubeconfig (default: the ServiceAccount of the pod or, outside a pod, as "
                   "kubectl)", value="FILE")  # fmt: skip
    cluster.option("context", str, None, "context of the kubeconfig (default: the current one)", value="NAME")


def parse_settings(
    arguments: Sequence[str] | None = None,
    program: str = "llmendpoint_dashboard",
    environment: Mapping[str, str] | None = None,
) -> Settings:
    """Return the settings of a command line. An invalid setting ends the process with exit code 2."""
    flags = command_line(program)
    options = flags.parse(arguments, environment)
    names = [name for name, _ in options.sidecar]
    _check_names(flags, options, names)
    auth = _auth(flags, options)
    if auth.mode is AuthMode.NONE and not options.allow_unauthenticated and not options.listen.is_loopback:
        flags.refuse(
            f"--listen {options.listen} can be reached from other machines, and --auth none would show the dashboard "
            "to everyone there; set --auth token or --auth header, listen on localhost, or add --allow-unauthenticated"
        )
    if not options.cluster and any((options.namespace, options.kubeconfig, options.context)):
        flags.refuse("--namespace, --kubeconfig and --context are only allowed with --cluster")
    if options.max_load_duration <= 0:
        flags.refuse("--max-load-duration must be longer than 0s")
    return Settings(
        listen=options.listen,
        sidecars=tuple(SidecarAddress(name, url, name in options.simulated) for name, url in options.sidecar),
        prometheus=options.prometheus,
        runs=None if options.runs is None else options.runs.absolute(),
        load_urls=dict(options.load_url),
        load_api_key_file=options.load_api_key_file,
        upstreams=dict(options.upstream),
        load_limits=LoadLimits(options.max_load_duration, options.max_load_concurrency),
        cluster=Cluster(tuple(options.namespace), options.kubeconfig, options.context) if options.cluster else None,
        auth=auth,
        allowed_hosts=tuple(options.allowed_host),
        allow_unauthenticated=options.allow_unauthenticated,
        log_level=options.log_level,
    )


def _check_names(flags: Flags, options: Namespace, names: Sequence[str]) -> None:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        flags.refuse(f"two sidecars have the name {repeated[0]}")
    named = {"--simulated": options.simulated, "--load-url": _first(options.load_url)}
    for option, given in {**named, "--upstream": _first(options.upstream)}.items():
        unknown = [name for name in given if name not in names]
        if unknown:
            flags.refuse(f"{option} names {unknown[0]}, but there is no --sidecar {unknown[0]}=URL")
    if options.load_url and options.runs is None:
        flags.refuse("--load-url requires --runs, the folder in which load tests are saved")
    if options.load_api_key_file is not None and not options.load_url:
        flags.refuse("--load-api-key-file requires --load-url, the server that gets the key")


def _first(pairs: Sequence[tuple[str, str]]) -> list[str]:
    return [name for name, _ in pairs]


def _auth(flags: Flags, options: Namespace) -> Auth:
    mode: AuthMode = options.auth
    if (mode is AuthMode.TOKEN) != (options.auth_token_file is not None):
        flags.refuse("--auth token and --auth-token-file require each other")
    if (mode is AuthMode.HEADER) != bool(options.auth_proxy):
        flags.refuse(
            "--auth header and --auth-proxy require each other: the header is only believed if the request comes from "
            "an address of the proxy in front"
        )
    return Auth(mode, options.auth_token_file, options.auth_header, tuple(options.auth_proxy))


def _pattern(pattern: re.Pattern[str], what: str, example: str) -> Callable[[str], str]:
    """Return a parser for text of a form."""

    def parse(text: str) -> str:
        if not pattern.fullmatch(text):
            raise ValueError(f"{text!r} is not {what}; write it like {example}")
        return text

    return parse
