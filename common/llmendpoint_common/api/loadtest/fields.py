"""Types of the fields of a LoadTest whose values the load generator reads.

The API server refuses what the load generator could not use, with a sentence that names the field. Each type checks the
same in Python, for files and for clusters that bypass the rules.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from llmendpoint_common.api.fields import BOUNDED_DURATION, PORT_PATTERN, POSITIVE_DURATION, Duration, rules
from llmendpoint_common.contracts.loadrun import MAX_CATEGORY_LENGTH, MAX_RATE, MAX_SECONDS
from llmendpoint_common.process.units import parse_duration

_MAX_TEMPERATURE = 100
#: A text of one line without control characters, as in the summary of a run. RE2 and Rust write code points like this.
_LINE = r"^[^\x00-\x1f\x7f-\x9f\x{2028}\x{2029}]+$"

_V4 = r"(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])(\.(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])){3}"
_GROUP = "[0-9a-fA-F]{1,4}"
#: IPv6 addresses with at most one `::`, which stands for at least one group (RFC 4291, section 2.2).
_V6 = "|".join(
    [
        f"({_GROUP}:){{7}}{_GROUP}",
        f"({_GROUP}:){{1,7}}:",
        *(f"({_GROUP}:){{1,{7 - after}}}(:{_GROUP}){{1,{after}}}" for after in range(1, 7)),
        f":(:{_GROUP}){{1,7}}",
        "::",
        f"::([fF]{{4}}:)?{_V4}",
    ]
)
_LABEL = "[0-9A-Za-z_]([0-9A-Za-z_-]{0,61}[0-9A-Za-z_])?"
_URL = rf"^https?://({_LABEL}(\.{_LABEL})*\.?|\[({_V6})\])(:{PORT_PATTERN})?(/[!-~]*)?$"
_URL_SENTENCE = (
    "must be a URL like http://vllm.models.svc:8000 or https://[2001:db8::1]/v1: a host, optionally a port and a path, "
    "and no user, query or fragment"
)


def _check(sentence: str, is_valid: Callable[[str], bool]) -> AfterValidator:
    """Return a validator with the sentence of a CEL rule."""

    def check(value: str) -> str:
        if not is_valid(value):
            raise ValueError(sentence)
        return value

    return AfterValidator(check)


def _number(rule: str, sentence: str, is_valid: Callable[[float], bool]) -> Any:
    """Return the type of a decimal number such as `2` or `0.5`, which is a string, because the API has no floats.

    YAML may leave out the quotes of a whole number. `maxLength` and `pattern` apply to strings only.
    """
    pattern = r"^[0-9]+(\.[0-9]+)?$"
    schema = {"x-kubernetes-int-or-string": True, "pattern": pattern, "maxLength": 16, **rules((rule, sentence))}
    return Annotated[
        str,
        BeforeValidator(str),
        Field(pattern=pattern, max_length=16),
        _check(sentence, lambda text: is_valid(float(text))),
        WithJsonSchema(schema),
    ]


def _bounded(rule: str, sentence: str, is_valid: Callable[[str], bool]) -> Any:
    return Annotated[Duration, Field(json_schema_extra=rules((rule, sentence))), _check(sentence, is_valid)]


def _is_bounded(text: str) -> bool:
    return not re.search("[0-9]{9}|[0-9]{5}h", text) and parse_duration(text) <= MAX_SECONDS


#: A duration of at most 30 days.
BoundedDuration = _bounded(*BOUNDED_DURATION, _is_bounded)
PositiveDuration = _bounded(*POSITIVE_DURATION, lambda text: bool(re.search("[1-9]", text)) and _is_bounded(text))
Rate = _number(
    f"double(self) > 0.0 && double(self) <= {MAX_RATE}.0",
    f"must be more than 0 and at most {MAX_RATE} requests per second",
    lambda rate: 0 < rate <= MAX_RATE,
)
#: A rate that may be 0, for a stage without load.
LevelRate = _number(
    f"double(self) <= {MAX_RATE}.0", f"must be at most {MAX_RATE} requests per second", lambda rate: rate <= MAX_RATE
)
Burstiness = _number(
    "double(self) > 0.0 && double(self) <= 1000.0",
    "must be more than 0 and at most 1000",
    lambda shape: 0 < shape <= 1000,
)
TimeScale = _number(
    "double(self) > 0.0 && double(self) <= 1000000.0",
    "must be more than 0 and at most 1000000",
    lambda factor: 0 < factor <= 1_000_000,
)
#: A percentage from `1%` to `99%`, without decimals.
Precision = Annotated[str, Field(pattern="^[1-9][0-9]?%$", max_length=3)]
Temperature = _number(
    f"double(self) >= 0.0 && double(self) <= {_MAX_TEMPERATURE}.0",
    f"must be a number from 0 to {_MAX_TEMPERATURE}",
    lambda temperature: 0 <= temperature <= _MAX_TEMPERATURE,
)
BaseURL = Annotated[
    str,
    Field(pattern=r"^https?://[^\s]+$", max_length=2048, json_schema_extra=rules(
        (f"self.matches({_URL!r}) && !self.matches('[?#]')", _URL_SENTENCE))),
    _check(_URL_SENTENCE, lambda url: bool(re.fullmatch(_URL, url)) and not re.search("[?#]", url)),
]  # fmt: skip
ServedModel = Annotated[str, Field(pattern=_LINE, max_length=253)]
Category = Annotated[str, Field(pattern=_LINE, max_length=MAX_CATEGORY_LENGTH)]
