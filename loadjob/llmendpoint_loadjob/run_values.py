"""Parsers for the values of the flags that describe a load run. They raise ValueError with a sentence."""

from __future__ import annotations

import json
import math
import re
from typing import Any, NamedTuple

from llmendpoint_common.contracts.loadrun import MAX_CONCURRENCY, MAX_RATE, MAX_SECONDS, RunStage, header_problem
from llmendpoint_common.process.units import parse_duration, parse_number, parse_positive, parse_share
from llmendpoint_loadjob.client.target import parse_target

#: Headers with credentials, which a run document does not hold.
_CREDENTIALS = frozenset({"authorization", "proxy-authorization"})
_STAGE_FORM = "write it like 30s:rate=5, 2m:concurrency=8 or 1m:rate=20:ramp"


class Sweep(NamedTuple):
    """The lowest and the highest rate of a sweep, in requests per second."""

    low: float
    high: float


class Setting(NamedTuple):
    """A name with its value."""

    name: str
    value: Any


class Slice(NamedTuple):
    """One of the `parts` of a run, counted from 0."""

    part: int
    parts: int


#: The only part of a run with one process.
WHOLE = Slice(0, 1)


def parse_url(text: str) -> str:
    """Return the base URL of a model server."""
    parse_target(text)
    return text


def parse_rate(text: str) -> float:
    """Parse a rate in requests per second."""
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate <= MAX_RATE:
        raise ValueError(f"{text!r} is not a rate; write requests per second, like 2 or 0.5, at most {MAX_RATE:,}")
    return rate


def parse_users(text: str) -> int:
    """Parse a number of users, or of requests in flight."""
    users = parse_positive(text)
    if users > MAX_CONCURRENCY:
        raise ValueError(f"{text!r} is too large; the maximum is {MAX_CONCURRENCY}")
    return users


def parse_time(text: str) -> float:
    """Parse a duration of at most 30 days, which may be 0."""
    seconds = parse_duration(text)
    if seconds > MAX_SECONDS:
        raise ValueError(f"{text!r} is too long; the maximum is {MAX_SECONDS / 86400:g} days (720h)")
    return seconds


def parse_span(text: str) -> float:
    """Parse a duration that is more than 0 and at most 30 days."""
    seconds = parse_time(text)
    if not seconds:
        raise ValueError(f"{text!r} is too short; it must be more than 0")
    return seconds


def parse_temperature(text: str) -> float:
    """Parse a sampling temperature."""
    temperature = parse_number(text)
    if temperature < 0:
        raise ValueError(f"{text!r} is negative; write a number like 0.7")
    return temperature


def parse_burstiness(text: str) -> float:
    """Parse the shape of gamma arrivals."""
    burstiness = parse_number(text)
    if not 0 < burstiness <= 1000:
        raise ValueError(f"{text!r} is not a burstiness; write a number above 0 and up to 1000")
    return burstiness


def parse_factor(text: str) -> float:
    """Parse a factor for the times of a trace."""
    factor = parse_number(text)
    if not 0 < factor <= 1e6:
        raise ValueError(f"{text!r} is not a factor; 0.5 replays a trace twice as fast")
    return factor


def parse_regression(text: str) -> float:
    """Return the fraction of an allowed regression such as `10%`, which may be up to 1000%."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)%", text)
    if not match or float(match[1]) > 1000:
        raise ValueError(f"{text!r} is not a share; write it like 10%")
    return float(match[1]) / 100


def parse_precision(text: str) -> float:
    """Return the fraction of a precision such as `5%`."""
    precision = parse_share(text)
    if not 0 < precision < 1:
        raise ValueError(f"{text!r} is not a precision; write it like 5%")
    return precision


def parse_stage(text: str) -> RunStage:
    """Parse a stage: `DURATION:rate=RATE` or `DURATION:concurrency=N`, and `:ramp` for a linear change."""
    span, _, rest = text.partition(":")
    level, _, ramp = rest.partition(":")
    name, _, value = level.partition("=")
    if name not in ("rate", "concurrency") or ramp not in ("", "ramp"):
        raise ValueError(f"{text!r} is not a stage; {_STAGE_FORM}")
    load: dict[str, Any] = {name: _level(name, value, text)}
    return RunStage(duration_seconds=parse_span(span), ramp=bool(ramp), **load)


def _level(name: str, value: str, text: str) -> float:
    """Return the load of a stage, which may be 0: a pause."""
    number = float(value) if re.fullmatch(r"[0-9]+(\.[0-9]+)?", value) else math.nan
    limit = MAX_RATE if name == "rate" else MAX_CONCURRENCY
    if not 0 <= number <= limit or (name == "concurrency" and not number.is_integer()):
        raise ValueError(f"{text!r} has no valid {name}; {_STAGE_FORM}")
    return number if name == "rate" else int(number)


def parse_sweep(text: str) -> Sweep:
    """Parse the rates of a sweep, `MIN:MAX`, in requests per second."""
    low, separator, high = text.partition(":")
    if not separator:
        raise ValueError(f"{text!r} is not a range of rates; write it like 0.5:20")
    sweep = Sweep(parse_rate(low), parse_rate(high))
    if sweep.low >= sweep.high:
        raise ValueError(f"{text!r} is not a range of rates; the first rate must be less than the second")
    return sweep


def parse_field(text: str) -> Setting:
    """Parse `NAME=VALUE`. The value is JSON if it can be read as JSON, and otherwise text."""
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise ValueError(f"{text!r} is not a field; write it like think=false or keep_alive=5m")
    try:
        return Setting(name, json.loads(value, parse_constant=_refuse_constant))
    except (ValueError, RecursionError):
        return Setting(name, value)


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text} is not valid JSON")


def parse_fields(text: str) -> dict[str, Any]:
    """Parse a JSON object."""
    try:
        fields = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise ValueError(f'{text!r} is not a JSON object; write it like {{"think": false}}')
    return fields


def parse_header(text: str) -> Setting:
    """Parse a header, `NAME: VALUE` or `NAME=VALUE`."""
    match = re.fullmatch(r"([^:=\s]+)\s*[:=]\s*(.*)", text, re.DOTALL)
    if not match:
        raise ValueError(f"{text.partition(':')[0]!r} is not a header; write it like 'X-Tenant: blue'")
    name, value = match[1], match[2].strip()
    if name.lower() in _CREDENTIALS:
        raise ValueError(f"{name} holds a credential, which the list of processes would show; use --api-key-file")
    problem = header_problem(name, value)
    if problem:
        raise ValueError(problem)
    return Setting(name, value)


def parse_config_map(text: str) -> str:
    """Return the name of a ConfigMap as `NAMESPACE/NAME`."""
    if not re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?/[a-z0-9]([-.a-z0-9]*[a-z0-9])?", text):
        raise ValueError(f"{text!r} is not a ConfigMap; write it like default/smoke-result-0")
    return text


def parse_slice(text: str) -> Slice:
    """Parse a part of a run, such as `0/4`."""
    match = re.fullmatch(r"([0-9]{1,5})/([0-9]{1,5})", text)
    if not match or int(match[1]) >= int(match[2]):
        raise ValueError(f"{text!r} is not a part of a run; the parts of 4 are 0/4, 1/4, 2/4 and 3/4")
    return Slice(int(match[1]), int(match[2]))
