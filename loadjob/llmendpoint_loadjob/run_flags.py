"""The flags that describe a load run, and their translation into a run document.

The flags have no defaults: the defaults are in the contract of the run document. Therefore a flag with the value None
was not given, and `--run` together with one of the other flags can be rejected.
"""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from llmendpoint_common.contracts.loadrun import (
    DEFAULT_CONCURRENCY,
    MAX_CONCURRENCY,
    MAX_RATE,
    Api,
    Arrivals,
    Order,
    RunDocument,
    RunLoad,
    RunQuestions,
    RunRequest,
    RunTarget,
)
from llmendpoint_common.contracts.sidecar import PROXY_PORT
from llmendpoint_common.process.flags import Flags, Group, choice, one_of
from llmendpoint_common.process.units import parse_duration, parse_integer, parse_number, parse_positive
from llmendpoint_loadjob.client.target import parse_target
from llmendpoint_loadjob.result.objectives import parse_objective

DEFAULT_URL = f"http://127.0.0.1:{PROXY_PORT}"

_FLAGS = ("url", "api", "model", "timeout", "concurrency", "rate", "arrivals", "duration", "warmup", "max-requests",
          "seed", "category", "in-order", "no-stream", "max-tokens", "temperature", "slo")  # fmt: skip
_TARGET = RunTarget(DEFAULT_URL)
_LOAD = RunLoad(concurrency=DEFAULT_CONCURRENCY)
_REQUEST = RunRequest()


def parse_url(text: str) -> str:
    """Return the base URL of a model server. Raises ValueError if it is not a URL."""
    parse_target(text)
    return text


def parse_rate(text: str) -> float:
    """Parse a rate in requests per second."""
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate <= MAX_RATE:
        raise ValueError(f"{text!r} is not a rate; write requests per second, like 2 or 0.5")
    return rate


def add_run_flags(flags: Flags) -> None:
    """Add all flags that describe a run."""
    _target_options(flags.group("target"))
    _load_options(flags.group("load"))
    _request_options(flags.group("requests"))


def given_run_flags(options: Namespace) -> list[str]:
    """Return the flags that describe a run and are set, on the command line or with a variable."""
    return [f"--{name}" for name in _FLAGS if getattr(options, name.replace("-", "_")) not in (None, [], False)]


def document_of_flags(options: Namespace) -> RunDocument:
    """Return the run document for the flags. Raises ValueError if they cannot be combined."""
    if not options.model:
        raise ValueError("--model is required unless --run is set")
    if options.concurrency is not None and options.rate is not None:
        raise ValueError("set either --concurrency (closed loop) or --rate (open loop), not both")
    if options.concurrency is not None and options.concurrency > MAX_CONCURRENCY:
        raise ValueError(f"--concurrency is at most {MAX_CONCURRENCY}")
    is_open = options.rate is not None
    load = _given(
        concurrency=None if is_open else options.concurrency or DEFAULT_CONCURRENCY,
        rate=options.rate,
        arrivals=(options.arrivals or Arrivals.POISSON) if is_open else None,
        duration_seconds=options.duration,
        warmup_seconds=options.warmup,
        max_requests=options.max_requests,
        seed=options.seed,
    )
    request = _given(
        stream=not options.no_stream,
        max_tokens=options.max_tokens,
        temperature=options.temperature,
        timeout_seconds=options.timeout,
    )
    return RunDocument(
        target=RunTarget(options.url or DEFAULT_URL, **_given(api=options.api)),
        model=options.model,
        load=RunLoad(**load),
        questions=RunQuestions(tuple(options.category), Order.SEQUENTIAL if options.in_order else Order.SHUFFLED),
        request=RunRequest(**request),
        objectives=tuple(options.slo),
    )


def _given(**fields: Any) -> dict[str, Any]:
    """Return the fields that have a value. The others get the defaults of the contract."""
    return {name: value for name, value in fields.items() if value is not None}


def _target_options(group: Group) -> None:
    group.option("url", parse_url, None, f"base URL of the model server (default: {DEFAULT_URL})", value="URL")
    group.option("api", choice(Api), None, f"{one_of(Api)} (default: {_TARGET.api})", value="API")
    group.option("model", str, None, "model to send requests to; required unless --run is set", value="NAME")


def _load_options(group: Group) -> None:
    group.option("concurrency", parse_positive, None, "closed loop: number of concurrent users; each user waits "
                 "for a response before sending the next request "
                 f"(default: {DEFAULT_CONCURRENCY} if --rate is not set)")  # fmt: skip
    group.option("rate", parse_rate, None, "open loop: requests per second, regardless of response times", value="RATE")
    group.option("arrivals", choice(Arrivals), None, "open loop: distribution of the gaps between requests, "
                 f"{one_of(Arrivals)} (default: {Arrivals.POISSON})", value="DISTRIBUTION")  # fmt: skip
    group.option("duration", parse_duration, None,
                 f"duration of the load, after the warm-up (default: {_LOAD.duration_seconds:g}s)")  # fmt: skip
    group.option("warmup", parse_duration, None, "duration of the warm-up, whose requests are not part of the "
                 f"result (default: {_LOAD.warmup_seconds:g}s)")  # fmt: skip
    group.option("max-requests", parse_positive, None, "maximum number of requests, including those of the warm-up")
    group.option("seed", parse_integer, None, "seed of the random numbers; the same seed gives the same schedule "
                 f"and order of questions (default: {_LOAD.seed})")  # fmt: skip


def _request_options(group: Group) -> None:
    group.option("category", str, [], "category of questions to ask; if not set, all", value="NAME")  # fmt: skip
    group.switch("in-order", "ask the questions in the order of the files instead of shuffled")
    group.switch("no-stream", "request responses that are not streamed")
    group.option(
        "max-tokens",
        parse_positive,
        None,
        "maximum number of tokens per response (default: the limit of each question)",
    )
    group.option("temperature", parse_number, None, "sampling temperature (default: the default of the server)")
    group.option("timeout", parse_duration, None,
                 "time limit for opening a connection, and again for the request with its "
                 f"response (default: {_REQUEST.timeout_seconds:g}s)")  # fmt: skip
    group.option("slo", parse_objective, [], "objective: ttft:p95=1s, tpot:p95=50ms, request_latency:p99=30s, "
                 "error_rate=1% or attainment=95%", value="OBJECTIVE")  # fmt: skip
