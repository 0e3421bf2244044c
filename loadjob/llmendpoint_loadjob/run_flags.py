"""The flags that describe a load run.

The flags have no defaults: the defaults are in the contract of the run document. Therefore a flag with the value None
was not given, and `--run` together with one of the other flags can be rejected. Where vLLM's `vllm bench serve` has a
flag with the same meaning, its spelling is accepted too.
"""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from llmendpoint_common.contracts.loadrun import (
    DEFAULT_CONCURRENCY,
    Api,
    Arrivals,
    PrefixCache,
    RunBaseline,
    RunLoad,
    RunRequest,
    RunSweep,
    RunTarget,
)
from llmendpoint_common.contracts.loadrun.notation import parse_objective
from llmendpoint_common.contracts.loadrun.presets import Scenario
from llmendpoint_common.contracts.sidecar import PROXY_PORT
from llmendpoint_common.process.flags import Flags, Group, choice, one_of
from llmendpoint_common.process.units import parse_integer, parse_positive
from llmendpoint_loadjob.run_values import (
    parse_burstiness,
    parse_factor,
    parse_field,
    parse_fields,
    parse_header,
    parse_precision,
    parse_rate,
    parse_regression,
    parse_span,
    parse_stage,
    parse_sweep,
    parse_temperature,
    parse_time,
    parse_url,
    parse_users,
)

DEFAULT_URL = f"http://127.0.0.1:{PROXY_PORT}"

#: Groups of the options that the run document replaces.
TARGET, LOAD, PROMPTS, REQUESTS, JUDGEMENT = "target", "load", "prompts", "requests", "judgement"
_TARGET = RunTarget(DEFAULT_URL)
_LOAD = RunLoad(concurrency=DEFAULT_CONCURRENCY)
_REQUEST = RunRequest()
_SWEEP = RunSweep(max_rate=1.0)


def add_run_flags(flags: Flags, default_url: str = DEFAULT_URL) -> None:
    """Add all flags that describe a run. `default_url` says to which server a run without `--url` goes."""
    _target_options(flags.group(TARGET), default_url)
    _shape_options(flags.group(LOAD))
    _amount_options(flags.group(LOAD))
    _prompt_options(flags.group(PROMPTS))
    _request_options(flags.group(REQUESTS))
    _judgement_options(flags.group(JUDGEMENT))


def given_run_flags(flags: Flags, options: Namespace) -> list[str]:
    """Return the flags that describe a run and are set, on the command line or with a variable.

    The files of a trace and of a baseline are not part of a run document.
    """
    names = [option.name for title in (TARGET, LOAD, PROMPTS, REQUESTS, JUDGEMENT) for option in flags.groups[title]]
    return [name for name in names if name not in ("--trace", "--baseline") and is_given(options, name)]


def is_given(options: Namespace, name: str) -> bool:
    """Return whether a flag is set."""
    return getattr(options, name.removeprefix("--").replace("-", "_")) not in (None, [], False)


def _target_options(group: Group, default_url: str) -> None:
    group.option("url", parse_url, None, f"base URL of the model server (default: {default_url})", value="URL",
                 alias="base-url")  # fmt: skip
    group.option("api", choice(Api), None, f"{one_of(Api)} (default: {_TARGET.api})", value="API", alias="backend")
    group.option("model", str, None, "model to send requests to; required unless --run is set", value="NAME")
    group.switch("insecure", "accept any TLS certificate; the connection can then be intercepted")


def _shape_options(group: Group) -> None:
    group.option("scenario", choice(Scenario), None, f"preset of the load, which the other options change: "
                 f"{one_of(Scenario)}", value="NAME")  # fmt: skip
    group.option("concurrency", parse_users, None, "closed loop: number of concurrent users; each user waits "
                 "for a response before sending the next request "
                 f"(default: {DEFAULT_CONCURRENCY} if no other load is set)")  # fmt: skip
    group.option("sessions", parse_users, None, "closed loop: number of concurrent conversations of several turns; "
                 "if some questions have turns, only these are asked")  # fmt: skip
    group.option("turns", parse_positive, None, "maximum number of turns of a conversation (default: those of each "
                 "question)")  # fmt: skip
    group.option("think-time", parse_time, None, "closed loop: mean time between a response and the next request of a "
                 "user (default: 0s)", value="DURATION")  # fmt: skip
    group.option("rate", parse_rate, None, "open loop: requests per second, regardless of response times", value="RATE",
                 alias="request-rate")  # fmt: skip
    group.option("arrivals", choice(Arrivals), None, "open loop: distribution of the gaps between requests, "
                 f"{one_of(Arrivals)} (default: {Arrivals.POISSON})", value="DISTRIBUTION")  # fmt: skip
    group.option("burstiness", parse_burstiness, None, "open loop: shape of gamma arrivals; 1 is Poisson, less is "
                 "burstier, more is more even", value="NUMBER")  # fmt: skip
    group.option("max-in-flight", parse_users, None, "open loop: maximum number of requests in flight; a request that "
                 "is due waits (default: no limit)")  # fmt: skip
    group.option("max-concurrency", parse_users, None, "vLLM's name: with a rate, the same as --max-in-flight, "
                 "otherwise the same as --concurrency")  # fmt: skip
    group.option("stage", parse_stage, [], "a part of the load, DURATION:rate=RATE or DURATION:concurrency=N; with "
                 ":ramp, the load changes linearly to that value", value="STAGE")  # fmt: skip
    group.option("sweep", parse_sweep, None, "search for the highest of these rates that meets the objectives",
                 value="MIN:MAX")  # fmt: skip
    group.option("sweep-step", parse_span, None, f"duration of each rate of a sweep (default: "
                 f"{_SWEEP.step_seconds:g}s)", value="DURATION")  # fmt: skip
    group.option("sweep-precision", parse_precision, None, "relative width of the interval at which a sweep ends "
                 f"(default: {100 * _SWEEP.precision:g}%)", value="SHARE")  # fmt: skip
    group.switch("stop-when-saturated", "open loop: end when the server cannot follow the offered rate")


def _amount_options(group: Group) -> None:
    group.option("duration", parse_span, None,
                 "duration of the load, after the warm-up; with --trace, how long to replay it, at the speed of "
                 f"--time-scale (default: {_LOAD.duration_seconds:g}s, with --trace until its end)",
                 value="DURATION")  # fmt: skip
    group.option("warmup", parse_time, None, "duration of the warm-up, whose requests are not part of the "
                 f"result (default: {_LOAD.warmup_seconds:g}s)", value="DURATION")  # fmt: skip
    group.option("drain-timeout", parse_time, None, "time for which the requests in flight at the end of the load are "
                 f"awaited (default: {_LOAD.drain_timeout_seconds:g}s)", value="DURATION")  # fmt: skip
    group.option("max-requests", parse_positive, None, "maximum number of measured requests")
    group.option("num-prompts", parse_positive, None, "vLLM's name: the same as --max-requests, and without --duration "
                 "the run lasts until all have been sent")  # fmt: skip
    group.option("seed", parse_integer, None, "seed of the random numbers; the same seed gives the same schedule "
                 f"and order of questions (default: {_LOAD.seed})")  # fmt: skip


def _prompt_options(group: Group) -> None:
    group.option("category", str, [], "category of questions to ask; if not set, all", value="NAME")
    group.switch("in-order", "ask the questions in the order of the files instead of shuffled", alias="disable-shuffle")
    group.option("input-tokens", parse_positive, None, "approximate number of tokens of generated prompts, which are "
                 "sent instead of questions", alias="random-input-len")  # fmt: skip
    group.option("output-tokens", parse_positive, None, "maximum number of tokens of the responses to generated "
                 "prompts", alias="random-output-len")  # fmt: skip
    group.option("trace", Path, None, "file with a trace to replay, Mooncake's JSONL or Azure's CSV; it determines the "
                 "times and lengths of the requests")  # fmt: skip
    group.option("time-scale", parse_factor, None, "factor for the times of the trace; with 0.5, a minute of "
                 "the trace is replayed in 30s (default: 1)", value="FACTOR")  # fmt: skip


def _request_options(group: Group) -> None:
    group.switch("no-stream", "request responses that are not streamed")
    group.option("max-tokens", parse_positive, None,
                 "maximum number of tokens per response (default: the limit of each question)")  # fmt: skip
    group.option("temperature", parse_temperature, None, "sampling temperature (default: the default of the server)",
                 value="NUMBER")  # fmt: skip
    group.option("timeout", parse_span, None,
                 "time limit for opening a connection, and again for the request with its "
                 f"response (default: {_REQUEST.timeout_seconds:g}s)", value="DURATION")  # fmt: skip
    group.option("prefix-cache", choice(PrefixCache), None, "unique puts random text in front of each prompt, so that "
                 f"no prompt is cached; {one_of(PrefixCache)} (default: {PrefixCache.SHARED})",
                 value="MODE")  # fmt: skip
    group.option("option", parse_field, [], "Ollama: option of the model, such as num_ctx=8192", value="NAME=VALUE")
    group.option("body", parse_field, [], "additional field of the request body, such as think=false",
                 value="NAME=VALUE")  # fmt: skip
    group.option("extra-body", parse_fields, None, "additional fields of the request body, as a JSON object",
                 value="JSON")  # fmt: skip
    group.option("header", parse_header, [], "additional header of the requests; not for credentials",
                 value="NAME:VALUE")  # fmt: skip


def _judgement_options(group: Group) -> None:
    group.option("slo", parse_objective, [], "objective: ttft:p95=1s, tpot:p95=50ms, request_latency:p99=30s, "
                 "error_rate=1% or attainment=95%", value="OBJECTIVE")  # fmt: skip
    group.option("baseline", Path, None, "summary.json of an earlier run, or its folder, to compare with")
    group.option("max-regression", parse_regression, None, "allowed regression against the baseline "
                 f"(default: {100 * RunBaseline().max_regression:g}%)", value="SHARE")  # fmt: skip
