"""Kubernetes quantities, such as `500m`, `1Gi`, `1e3` or `.5`, and the rules between requests and limits.

The notation is that of `k8s.io/apimachinery/pkg/api/resource`: a decimal number, followed by a binary suffix, a decimal
suffix, or a decimal exponent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Final

#: Pattern of a quantity that is not negative. A schema and the operator use the same one.
QUANTITY_PATTERN: Final = r"^\+?([0-9]+(\.[0-9]*)?|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?$"

_QUANTITY = re.compile(r"\+?(?P<number>[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?P<suffix>[KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?")
_DECIMAL = {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}


def parse_quantity(text: str) -> Decimal:
    """Return the value of a quantity. Raises ValueError if the text is not one."""
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a quantity such as 500m, 8Gi or 1e3")
    number, suffix = Decimal(match["number"]), match["suffix"] or ""
    if suffix in _BINARY:
        return number * Decimal(1024) ** _BINARY[suffix]
    if suffix in _DECIMAL:
        return number.scaleb(_DECIMAL[suffix])
    return number.scaleb(int(suffix[1:])) if suffix else number


def multiplied(resources: Mapping[str, str], factor: int, names: Sequence[str]) -> dict[str, str]:
    """Return resources, of which those with these names are multiplied. Their numbers must be integers."""
    return {name: _times(text, factor) if name in names else text for name, text in resources.items()}


def _times(text: str, factor: int) -> str:
    suffix = text.lstrip("0123456789")
    return f"{int(text.removesuffix(suffix)) * factor}{suffix}"


def is_extended(resource: str) -> bool:
    """Return whether a resource is an extended one, such as nvidia.com/gpu. It cannot be overcommitted."""
    return "/" in resource


def with_defaults(
    given_requests: Mapping[str, str],
    given_limits: Mapping[str, str],
    default_requests: Mapping[str, str],
    default_limits: Mapping[str, str],
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the requests and limits of a container. What is given moves a default that would contradict it.

    A request must not be above the limit: a given limit lowers a default request, and a given request raises a default
    limit. Both must be equal for an extended resource.
    """
    requests, limits = {**default_requests, **given_requests}, {**default_limits, **given_limits}
    for name in requests.keys() | limits.keys():
        if is_extended(name):
            amount = given_limits.get(name) or given_requests.get(name) or limits.get(name) or requests[name]
            requests[name] = given_requests.get(name, amount)
            limits[name] = given_limits.get(name, amount)
        elif name in requests and name in limits and parse_quantity(requests[name]) > parse_quantity(limits[name]):
            if name not in given_requests:
                requests[name] = limits[name]
            elif name not in given_limits:
                limits[name] = requests[name]
    return requests, limits
