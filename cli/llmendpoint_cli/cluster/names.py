"""Names of objects on the command line."""

from __future__ import annotations

import re
from typing import NamedTuple

_NAME = "[a-z0-9]([-a-z0-9.]*[a-z0-9])?"


class ObjectName(NamedTuple):
    """A name with its namespace. Without a namespace, the one of the kubeconfig's context is meant."""

    namespace: str | None
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


def parse_object_name(text: str) -> ObjectName:
    """Parse `NAMESPACE/NAME` or `NAME`. Raises ValueError."""
    match = re.fullmatch(rf"(?:({_NAME})/)?({_NAME})", text)
    if not match or len(text) > 2 * 253:
        raise ValueError(f"{text!r} is not a name; write it like default/nightly")
    return ObjectName(match[1], match[3])
