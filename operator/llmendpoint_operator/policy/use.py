"""A value that a spec uses, as the rules of the policy see it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, TypeAlias


class Use(NamedTuple):
    """A value that a spec uses, and the path of its field."""

    field: str
    value: str


Uses: TypeAlias = Iterator[Use]
