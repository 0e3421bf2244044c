"""Hypothesis strategies for values that a structural schema describes, so that tests feed what an API server admits."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

Schema = dict[str, Any]

#: Texts that parsers disagree about: signs, exponents, other digits, white space, brackets, and extreme sizes.
_ODD = ("0", "-1", "1e3", "1.", ".5", "00.0", "٣", "0s", "0h0m", "1.5s", "99999999999999999999h", "1" * 16, "9" * 32,
        "http://[", "http://[::1", "http://:1", "http://a:b@c", "http://a:0", "http://a:65536", "https://a?b#c", "http://a//",
        "http://\uff41", "http://a..b", " ", "\n", "a\n", "\u2028", "100%", "0%", "100.00%", "0ms")  # fmt: skip

_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**40) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=5,
)


def values(schema: Schema) -> SearchStrategy[Any]:
    """Return values that satisfy the types, patterns and bounds of a schema, and some that do not quite."""
    if schema.get("x-kubernetes-int-or-string"):
        return st.one_of(st.integers(-1, 200_000), st.from_regex(_python(schema["pattern"]), fullmatch=True), _odd())
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    return _BY_TYPE[schema["type"]](schema)


def objects(schema: Schema, **given: SearchStrategy[Any]) -> SearchStrategy[Any]:
    """Return objects of a schema. The fields in `given` are always present, and have these values."""
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        return st.dictionaries(st.text(max_size=10), _ANYTHING, max_size=3)
    if "additionalProperties" in schema:
        return st.dictionaries(st.text(max_size=10), values(schema["additionalProperties"]), max_size=2)
    properties = {name: field for name, field in schema["properties"].items() if name not in given}
    required = {name: values(properties[name]) for name in schema.get("required", []) if name in properties}
    optional = {name: values(field) for name, field in properties.items() if name not in required}
    return st.fixed_dictionaries({**required, **given}, optional=optional)


def _texts(schema: Schema) -> SearchStrategy[str]:
    pattern = schema.get("pattern")
    likely = st.text(max_size=20) if pattern is None else st.from_regex(_python(pattern), fullmatch=True)
    return st.one_of(likely, _odd())


def _odd() -> SearchStrategy[str]:
    return st.sampled_from(_ODD)


def _python(pattern: str) -> str:
    """Return a pattern of RE2 for Python's `re`."""
    return re.sub(r"\\x\{([0-9a-f]{4})\}", r"\\u\1", pattern)


_BY_TYPE: dict[str, Callable[[Schema], SearchStrategy[Any]]] = {
    "object": objects,
    "array": lambda schema: st.lists(values(schema["items"]), max_size=3),
    "integer": lambda schema: st.integers(schema.get("minimum", -5), schema.get("maximum", 2**40)),
    "boolean": lambda _: st.booleans(),
    "string": _texts,
}
