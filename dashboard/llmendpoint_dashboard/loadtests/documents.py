"""Turns the form of the page into a run document, a LoadTest, and a command. Has no side effects."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec
import yaml

from llmendpoint_common.contracts.cluster import API_VERSION, LOADTEST
from llmendpoint_common.contracts.loadrun import (
    METRICS,
    PRESETS,
    Arrivals,
    Objective,
    RunDocument,
    RunLoad,
    RunTarget,
    Scenario,
    apply_preset,
)
from llmendpoint_common.contracts.loadrun.notation import parse_objective
from llmendpoint_common.process.units import format_duration, parse_duration
from llmendpoint_dashboard.contract import LoadTestRequest, Manifest, Preset
from llmendpoint_dashboard.loadtests.problems import RefusedError
from llmendpoint_dashboard.settings import LoadLimits

#: Number of objectives, and length of the texts of the form.
_MAX_OBJECTIVES = 32
_MAX_TEXT = 256
#: Names of LoadTests are prefixes of the names of their objects. A run on this machine has the same rule.
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")
_MAX_PREFIX = 30


def presets(limits: LoadLimits) -> list[Preset]:
    """Return the scenarios that the page can start within its limits."""
    return [
        Preset(name=preset.scenario.value, description=preset.description)
        for preset in PRESETS.values()
        if preset.load.get("duration_seconds", 0.0) <= limits.seconds
    ]


def run_document(request: LoadTestRequest, url: str, limits: LoadLimits) -> RunDocument:
    """Return the run document of a form. Raises RefusedError, which names the field."""
    document = _document(request, url)
    longest, highest = longest_seconds(document.load), highest_load(document.load)
    if longest > limits.seconds:
        raise RefusedError(
            f"The load test would take up to {format_duration(longest)}. The page starts load tests of at most "
            f"{format_duration(limits.seconds)} (--max-load-duration).",
            "duration",
        )
    if highest > limits.concurrency:
        raise RefusedError(
            f"The load would be {highest:g} users or requests per second. The page starts load tests with at most "
            f"{limits.concurrency} (--max-load-concurrency).",
            "concurrency" if request.concurrency is not None else "rate",
        )
    return document


def manifest(request: LoadTestRequest, namespace: str, endpoint: str, local_url: str) -> Manifest:
    """Return the LoadTest of a form as YAML, and the commands for it. Raises RefusedError, which names the field.

    `local_url` is the URL for `llmendpoint load`, or empty if this machine cannot reach the endpoint.
    """
    document = _document(request, local_url or "http://localhost")
    name = _name(request)
    prefix = f"{endpoint[:_MAX_PREFIX].rstrip('-.')}-load-"
    body = {
        "apiVersion": API_VERSION,
        "kind": LOADTEST,
        "metadata": {"namespace": namespace, **({"name": name} if name else {"generateName": prefix})},
        "spec": dict(_spec(request, endpoint)),
    }
    verb = "apply" if name else "create"
    return Manifest(
        manifest=yaml.safe_dump(body, sort_keys=False, allow_unicode=True),
        command=f"kubectl {verb} -f -",
        local=_command(request, document.target.url) if local_url else "",
    )


def name_of(request: LoadTestRequest) -> str:
    """Return the name of a run: the one of the form, or that of its scenario."""
    return _name(request) or (request.scenario or "load").lower()


def longest_seconds(load: RunLoad) -> float:
    """Return the time that a load takes at most, without the drain, in seconds."""
    if load.stages:
        return load.warmup_seconds + sum(stage.duration_seconds for stage in load.stages)
    if load.sweep is not None:
        # The search doubles the rate until it is too high, and then halves the interval until it is precise enough.
        rates, width = 2, load.sweep.max_rate / load.sweep.min_rate
        while width > 1 + load.sweep.precision:
            rates, width = rates + 1, width / 2 if width > 4 else width**0.5
        return load.warmup_seconds + rates * load.sweep.step_seconds
    return load.warmup_seconds + load.duration_seconds


def highest_load(load: RunLoad) -> float:
    """Return the highest number of users, or of requests per second."""
    values: list[float | None] = [load.concurrency, load.rate, load.sessions.users if load.sessions else None]
    values += [load.sweep.max_rate if load.sweep else None]
    for stage in load.stages or ():
        values += [stage.concurrency, stage.rate]
    return max(value for value in values if value is not None)


def _document(request: LoadTestRequest, url: str) -> RunDocument:
    _check(request)
    objectives = tuple(_objectives(request.objectives))
    load, objectives = _load(request, objectives)
    if load.is_open and load.arrivals is None:
        load = msgspec.structs.replace(load, arrivals=Arrivals.POISSON)
    try:
        return _checked(RunDocument(RunTarget(url), request.model, load, objectives=objectives))
    except (ValueError, msgspec.ValidationError) as error:
        raise RefusedError(_sentence(str(error))) from None


def _checked(document: RunDocument) -> RunDocument:
    """Return a document whose bounds were checked. msgspec checks them only when it decodes."""
    return msgspec.json.decode(msgspec.json.encode(document), type=RunDocument)


def _load(request: LoadTestRequest, objectives: tuple[Objective, ...]) -> tuple[RunLoad, tuple[Objective, ...]]:
    given = {
        "concurrency": request.concurrency,
        "rate": request.rate,
        "duration_seconds": None if request.duration is None else _duration(request.duration),
    }
    try:
        if request.scenario is not None:
            load, objectives = apply_preset(_scenario(request.scenario), given, objectives)
            return load, objectives
        if request.duration is None:
            raise RefusedError("Set a duration, such as 30s, or choose a scenario.", "duration")
        if request.concurrency is None and request.rate is None:
            given["concurrency"] = 1
        return RunLoad(**{name: value for name, value in given.items() if value is not None}), objectives  # type: ignore[arg-type]
    except ValueError as error:
        raise RefusedError(
            _sentence(str(error)), "concurrency" if request.concurrency is not None else "rate"
        ) from None


def _check(request: LoadTestRequest) -> None:
    for field, text in (("model", request.model), ("source", request.source), ("name", request.name)):
        if len(text) > _MAX_TEXT or not text.isprintable():
            raise RefusedError(f"The field {field} is longer than {_MAX_TEXT} characters, or not printable.", field)
    if not request.model:
        raise RefusedError("Choose a model.", "model")
    if request.concurrency is not None and request.rate is not None:
        raise RefusedError("Set either the number of users or the rate, not both.", "rate")
    if request.concurrency is not None and request.concurrency < 1:
        raise RefusedError("The number of users must be at least 1.", "concurrency")
    if request.rate is not None and not 0 < request.rate <= 1e5:
        raise RefusedError("The rate must be more than 0 and at most 100000 requests per second.", "rate")
    _name(request)


def _name(request: LoadTestRequest) -> str:
    if request.name and not _NAME.fullmatch(request.name):
        raise RefusedError(
            "A name has at most 40 lower-case letters, digits and dashes, and begins and ends with a letter or digit.",
            "name",
        )
    return request.name


def _scenario(text: str) -> Scenario:
    try:
        return Scenario(text)
    except ValueError:
        raise RefusedError(f"There is no such scenario. Choose one of {', '.join(Scenario)}.", "scenario") from None


def _duration(text: str) -> float:
    try:
        seconds = parse_duration(text[:_MAX_TEXT])
    except ValueError as error:
        raise RefusedError(_sentence(str(error)), "duration") from None
    if seconds <= 0:
        raise RefusedError("The duration must be longer than 0s.", "duration")
    return seconds


def _objectives(texts: Iterable[str]) -> Iterator[Objective]:
    for number, text in enumerate(texts):
        if number >= _MAX_OBJECTIVES or len(text) > _MAX_TEXT:
            raise RefusedError(f"There may be at most {_MAX_OBJECTIVES} objectives.", "objectives")
        try:
            # The page may write names with dashes.
            name, separator, rest = text.partition("=")
            yield parse_objective(f"{name.replace('-', '_')}{separator}{rest}")
        except (ValueError, msgspec.ValidationError) as error:
            raise RefusedError(_sentence(str(error)), "objectives") from None


def _spec(request: LoadTestRequest, endpoint: str) -> Iterator[tuple[str, Any]]:
    yield "endpointRef", {"name": endpoint}
    yield "model", request.model
    if request.scenario is not None:
        yield "scenario", request.scenario
    load: Mapping[str, Any] = {
        "concurrency": request.concurrency,
        "rate": None if request.rate is None else f"{request.rate:g}",
        "duration": request.duration,
    }
    given = {name: value for name, value in load.items() if value is not None}
    if given:
        yield "load", given
    objectives = [_objective(item) for item in _objectives(request.objectives)]
    if objectives:
        yield "slo", objectives


def _objective(objective: Objective) -> dict[str, Any]:
    fields = {"metric": objective.metric.value, "percentile": objective.percentile}
    return {
        **{name: value for name, value in fields.items() if value is not None},
        "threshold": METRICS[objective.metric].format(objective.threshold),
    }


def _command(request: LoadTestRequest, url: str) -> str:
    words = ["llmendpoint", "load", f"--url={url}", f"--model={request.model}"]
    options = {
        "scenario": request.scenario,
        "concurrency": request.concurrency,
        "rate": None if request.rate is None else f"{request.rate:g}",
        "duration": request.duration,
    }
    words += [f"--{name}={value}" for name, value in options.items() if value is not None]
    words += [f"--slo={text}" for text in request.objectives]
    return shlex.join(words)


def _sentence(text: str) -> str:
    """Return a message of a parser as a sentence."""
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"
