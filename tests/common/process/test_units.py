"""Parsers of durations, shares, numbers and addresses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmendpoint_common.process.units import (
    Address,
    format_duration,
    parse_address,
    parse_duration,
    parse_integer,
    parse_number,
    parse_positive,
    parse_share,
)


@pytest.mark.parametrize(
    ("text", "seconds"), [("250ms", 0.25), ("15s", 15), ("1h30m", 5400), ("0", 0), ("1m500ms", 60.5), ("1.5s", 1.5)]
)
def test_a_duration_is_read_in_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "s", "5 s", "5d", "-1s", "1s garbage"])
def test_what_is_no_duration_is_refused_with_the_form(text: str) -> None:
    with pytest.raises(ValueError, match="write it like 250ms"):
        parse_duration(text)


@given(st.floats(min_value=0.001, max_value=59))
def test_a_shown_duration_is_the_value_to_three_digits(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, rel=0.006)


@pytest.mark.parametrize(
    ("text", "address"),
    [(":11435", Address(None, 11435)), ("127.0.0.1:80", Address("127.0.0.1", 80)), ("[::1]:80", Address("::1", 80))],
)
def test_an_address_is_read_and_shown_alike(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert str(address) == text


@pytest.mark.parametrize("text", ["11435", "localhost", "::1:80", ":99999", "host:"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"address|brackets"):
        parse_address(text)


def test_a_share_is_a_fraction() -> None:
    assert parse_share("1%") == pytest.approx(0.01)
    with pytest.raises(ValueError, match="write it like 1%"):
        parse_share("101%")


def test_numbers_are_read_and_refused_with_a_sentence() -> None:
    assert (parse_integer("-3"), parse_positive("3"), parse_number("0.5")) == (-3, 3, 0.5)
    for parse, text in ((parse_integer, "1.5"), (parse_positive, "0"), (parse_positive, "²"), (parse_number, "nan")):
        with pytest.raises(ValueError, match=f"'{text}' is not a"):
            parse(text)
