"""Translates the flags that describe a load run into a run document.

Rules that involve several flags are checked here, because the messages of the contract name the fields of the document
and not the flags.
"""

from __future__ import annotations

from argparse import Namespace
from typing import Any

import msgspec

from llmendpoint_common.contracts.loadrun import (
    DEFAULT_CONCURRENCY,
    MAX_SECONDS,
    Arrivals,
    Objective,
    Order,
    RunBaseline,
    RunDocument,
    RunLoad,
    RunQuestions,
    RunRequest,
    RunSessions,
    RunSweep,
    RunSynthetic,
    RunTarget,
    RunTrace,
)
from llmendpoint_common.contracts.loadrun.presets import apply_preset
from llmendpoint_common.process.flags import one_of
from llmendpoint_loadjob.run_flags import DEFAULT_URL, is_given
from llmendpoint_loadjob.run_values import Setting

_SHAPES = ("--concurrency", "--sessions", "--rate", "--stage", "--sweep")
_OPEN = ("--arrivals", "--burstiness", "--max-in-flight", "--stop-when-saturated")
#: A flag that only has a meaning with one of others.
_REQUIRES = (
    ("--turns", ("--sessions",)),
    ("--sweep-step", ("--sweep",)),
    ("--sweep-precision", ("--sweep",)),
    ("--time-scale", ("--trace",)),
    ("--max-regression", ("--baseline",)),
    ("--input-tokens", ("--output-tokens",)),
    ("--output-tokens", ("--input-tokens",)),
)


def document_of_flags(options: Namespace) -> RunDocument:
    """Return the run document for the flags. Raises ValueError if they cannot be combined."""
    if not options.model:
        raise ValueError("--model is required unless --run is set")
    load, objectives = load_of_flags(options)
    return RunDocument(
        target=RunTarget(
            options.url or DEFAULT_URL, **_given(api=options.api, insecure_skip_verify=options.insecure or None)
        ),
        model=options.model,
        load=load,
        questions=RunQuestions(tuple(options.category), Order.SEQUENTIAL if options.in_order else Order.SHUFFLED),
        synthetic=_synthetic(options),
        trace=_trace(options),
        baseline=None if options.baseline is None else RunBaseline(**_given(max_regression=options.max_regression)),
        request=_request(options),
        objectives=objectives,
    )


def load_of_flags(options: Namespace) -> tuple[RunLoad, tuple[Objective, ...]]:
    """Return load and objectives, in which a scenario is resolved. Raises ValueError if flags cannot be combined."""
    _check(options)
    fields, objectives = load_fields(options), tuple(options.slo)
    load = None
    if options.scenario is not None:
        load, objectives = apply_preset(options.scenario, fields, objectives, is_trace=options.trace is not None)
    load = load or RunLoad(**fields)
    if load.is_open and load.arrivals is None:
        load = msgspec.structs.replace(load, arrivals=Arrivals.POISSON)
    return load, objectives


def load_fields(options: Namespace) -> dict[str, Any]:
    """Return the fields of the load that are given, or else the default load."""
    is_open = options.rate is not None
    arrivals, burstiness = _arrivals(options)
    concurrency, max_in_flight = options.concurrency, options.max_in_flight
    if options.max_concurrency is not None:
        concurrency, max_in_flight = (None, options.max_concurrency) if is_open else (options.max_concurrency, None)
    has_shape = any(is_given(options, name) for name in (*_SHAPES, "--trace", "--scenario"))
    duration = None if options.trace is not None else options.duration
    if duration is None and options.num_prompts is not None and options.scenario is None:
        duration = MAX_SECONDS
    return _given(
        concurrency=concurrency or (None if has_shape else DEFAULT_CONCURRENCY),
        sessions=None if options.sessions is None else RunSessions(options.sessions, options.turns),
        think_time_seconds=options.think_time,
        rate=options.rate,
        arrivals=arrivals,
        burstiness=burstiness,
        max_in_flight=max_in_flight,
        stages=tuple(options.stage) or None,
        sweep=_sweep(options),
        stop_when_saturated=options.stop_when_saturated or None,
        duration_seconds=duration,
        warmup_seconds=options.warmup,
        drain_timeout_seconds=options.drain_timeout,
        max_requests=options.max_requests or options.num_prompts,
        seed=options.seed,
    )


def _check(options: Namespace) -> None:
    """Refuse combinations that mean nothing, with the names of the flags."""
    shapes = [name for name in _SHAPES if is_given(options, name)]
    if len(shapes) > 1:
        raise ValueError(f"set only one of {one_of(_SHAPES)}, not {' and '.join(shapes)}")
    if options.trace is not None and shapes:
        raise ValueError(f"--trace determines when requests are sent, so it cannot be combined with {shapes[0]}")
    for name, others in _REQUIRES:
        if is_given(options, name) and not any(is_given(options, other) for other in others):
            raise ValueError(f"{name} is only allowed with {one_of(others)}")
    for name, twin in (("--max-concurrency", "--concurrency"), ("--max-concurrency", "--max-in-flight"),
                       ("--num-prompts", "--max-requests"), ("--trace", "--input-tokens")):  # fmt: skip
        if is_given(options, name) and is_given(options, twin):
            raise ValueError(f"set either {name} or {twin}, not both")
    if options.stage and len({stage.rate is None for stage in options.stage}) > 1:
        raise ValueError("--stage: the stages must all have a rate, or all have a concurrency")
    _check_loop(options)
    _check_durations(options)


def _check_loop(options: Namespace) -> None:
    if options.scenario is not None:
        return
    is_open = options.rate is not None or options.sweep is not None or any(s.rate is not None for s in options.stage)
    for name in _OPEN:
        if is_given(options, name) and not is_open:
            raise ValueError(f"{name} is only allowed with --rate, --sweep or stages with a rate")
    if options.think_time is not None and (is_open or options.trace is not None):
        raise ValueError("--think-time is only allowed with --concurrency or --sessions")
    if options.sweep is not None and not options.slo:
        raise ValueError("--sweep requires --slo: the objectives decide whether a rate is too high")


def _check_durations(options: Namespace) -> None:
    """Refuse a duration beside a load that has its own."""
    for name in ("--stage", "--sweep"):
        if options.duration is not None and is_given(options, name):
            raise ValueError(f"--duration cannot be combined with {name}, which determines the duration")


def _arrivals(options: Namespace) -> tuple[Arrivals | None, float | None]:
    """Return arrivals and burstiness. As in vLLM, a burstiness alone means gamma arrivals, of which 1 is Poisson."""
    if options.burstiness is None or options.arrivals is Arrivals.GAMMA:
        if options.arrivals is Arrivals.GAMMA and options.burstiness is None:
            raise ValueError("--arrivals gamma requires --burstiness")
        return options.arrivals, options.burstiness
    if options.arrivals is not None:
        raise ValueError(f"--burstiness is only allowed with --arrivals gamma, not {options.arrivals}")
    return (Arrivals.POISSON, None) if options.burstiness == 1 else (Arrivals.GAMMA, options.burstiness)


def _sweep(options: Namespace) -> RunSweep | None:
    if options.sweep is None:
        return None
    fields = _given(step_seconds=options.sweep_step, precision=options.sweep_precision)
    return RunSweep(min_rate=options.sweep.low, max_rate=options.sweep.high, **fields)


def _synthetic(options: Namespace) -> RunSynthetic | None:
    return None if options.input_tokens is None else RunSynthetic(options.input_tokens, options.output_tokens)


def _trace(options: Namespace) -> RunTrace | None:
    """Return the trace. Its part to replay is set with the same flag as the duration of another load."""
    if options.trace is None:
        return None
    return RunTrace(**_given(time_scale=options.time_scale, duration_seconds=options.duration))


def _request(options: Namespace) -> RunRequest:
    body = (options.extra_body or {}) | _fields(options.body)
    return RunRequest(
        **_given(
            stream=not options.no_stream,
            max_tokens=options.max_tokens,
            prefix_cache=options.prefix_cache,
            options=_fields(options.option) or None,
            body=body or None,
            headers=_fields(options.header) or None,
            temperature=options.temperature,
            timeout_seconds=options.timeout,
        )
    )


def _fields(settings: list[Setting]) -> dict[str, Any]:
    return {setting.name: setting.value for setting in settings}


def _given(**fields: Any) -> dict[str, Any]:
    """Return the fields that have a value. The others get the defaults of the contract."""
    return {name: value for name, value in fields.items() if value is not None}
