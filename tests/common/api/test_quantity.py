"""Kubernetes quantities, and the rules between requests and limits."""

from __future__ import annotations

import re
from decimal import Decimal

import pytest

from llmendpoint_common.api.quantity import QUANTITY_PATTERN, parse_quantity, with_defaults


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0), ("5", 5), ("500m", Decimal("0.5")), ("1Pi", 2**50), ("1Ei", 2**60), ("1.5Gi", Decimal("1.5") * 2**30),
        ("1e3", 1000), ("1E3", 1000), ("1e-3", Decimal("0.001")), ("1E", 10**18), ("2k", 2000), (".5", Decimal("0.5")),
        ("5.", 5), ("+1", 1), ("100n", Decimal("1e-7")), ("7u", Decimal("7e-6")), ("3P", 3 * 10**15),
    ],
)  # fmt: skip
def test_every_form_has_its_value(text: str, value: Decimal | int) -> None:
    assert parse_quantity(text) == value
    assert re.fullmatch(QUANTITY_PATTERN[1:-1], text)


@pytest.mark.parametrize(
    "text", ["", "Gi", "-1", "1 Gi", "1gi", "1K", "1KiB", "1e", "1e+", "--1", ".", "1.2.3", "$(X)"]
)
def test_other_texts_are_not_quantities(text: str) -> None:
    with pytest.raises(ValueError, match="is not a quantity such as"):
        parse_quantity(text)
    assert not re.fullmatch(QUANTITY_PATTERN[1:-1], text)


@pytest.mark.parametrize(
    ("requests", "limits", "expected"),
    [
        ({}, {}, ({"cpu": "500m", "memory": "1Gi"}, {"memory": "2Gi"})),
        # A limit below the default request lowers it, and a request above the default limit raises that.
        ({}, {"memory": "512Mi"}, ({"cpu": "500m", "memory": "512Mi"}, {"memory": "512Mi"})),
        ({}, {"cpu": ".25"}, ({"cpu": ".25", "memory": "1Gi"}, {"cpu": ".25", "memory": "2Gi"})),
        ({"memory": "3Gi"}, {}, ({"cpu": "500m", "memory": "3Gi"}, {"memory": "3Gi"})),
        # What is given is never changed.
        ({"memory": "3Gi"}, {"memory": "1Gi"}, ({"cpu": "500m", "memory": "3Gi"}, {"memory": "1Gi"})),
        ({}, {"memory": "4Gi"}, ({"cpu": "500m", "memory": "1Gi"}, {"memory": "4Gi"})),
    ],
)
def test_what_is_given_moves_a_default_that_contradicts_it(
    requests: dict[str, str], limits: dict[str, str], expected: tuple[dict[str, str], dict[str, str]]
) -> None:
    assert with_defaults(requests, limits, {"cpu": "500m", "memory": "1Gi"}, {"memory": "2Gi"}) == expected


@pytest.mark.parametrize(
    ("requests", "limits", "amount"), [({}, {}, "1"), ({"a.b/gpu": "2"}, {}, "2"), ({}, {"a.b/gpu": "2"}, "2")]
)
def test_requests_and_limits_of_an_extended_resource_are_equal(
    requests: dict[str, str], limits: dict[str, str], amount: str
) -> None:
    expected = {"a.b/gpu": amount}
    assert with_defaults(requests, limits, {"a.b/gpu": "1"}, {"a.b/gpu": "1"}) == (expected, expected)
