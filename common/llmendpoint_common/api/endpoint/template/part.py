"""A part of `spec.podTemplate`: what all models of its parts have in common.

The models list the allowed fields: those that cannot lead past the meter, weaken the pod or change its identity. A
field that a later version of Kubernetes adds is refused until it is added here. The values of allowed fields are only
checked if the operator reads them; otherwise the API server checks them when the StatefulSet is written.

The names and types are those of `k8s.io/api/core/v1` in Kubernetes 1.35. A message follows the path of its field and a
colon.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, TypeAlias

from pydantic import ConfigDict, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from llmendpoint_common.api.fields import ApiModel

Path: TypeAlias = tuple[str | int, ...]
#: A field that only the API server checks.
Object: TypeAlias = dict[str, Any]

#: Type of the errors with the messages of this package.
SENTENCE = "template"
UNSUPPORTED = "not supported in podTemplate"
NOT_A_SECRET = "not allowed: Secrets reach the pods only through metering.auth and pod.imagePullSecrets"  # noqa: S105
RESTRICTED = "not allowed by the restricted Pod Security Standard"
OPERATOR = "set by the operator, and cannot be changed"


def instead(field: str) -> str:
    """Return the reason of a field for which the spec has a field."""
    return f"set spec.{field} instead"


def reasons(*tables: Mapping[str, str]) -> Mapping[str, str]:
    """Return the reasons of several tables."""
    return {name: reason for table in tables for name, reason in table.items()}


def errors(title: str, found: Mapping[Path, str]) -> ValidationError:
    """Return an error with these sentences, by the path of the field to which they belong."""
    details = [
        # pydantic formats the message; braces in names would be read as placeholders.
        InitErrorDetails(type=PydanticCustomError(SENTENCE, "{sentence}", {"sentence": text}), loc=path, input=None)
        for path, text in found.items()
    ]
    return ValidationError.from_exception_data(title, details)


class Part(ApiModel):
    """A part of a PodSpec. `refused` has reasons for fields that are not allowed."""

    model_config = ConfigDict(strict=True)

    refused: ClassVar[Mapping[str, str]] = {}

    @model_validator(mode="before")
    @classmethod
    def _has_allowed_fields(cls, value: Any) -> Any:
        if isinstance(value, dict):
            allowed = {field.alias for field in cls.model_fields.values()}
            names = sorted(str(name) for name in value if name not in allowed)
            if names:
                raise errors(cls.__name__, {(name,): cls.refused.get(name, UNSUPPORTED) for name in names})
        return value

    @model_validator(mode="after")
    def _is_consistent(self) -> Part:
        found = dict(self.conflicts())
        if found:
            raise errors(type(self).__name__, found)
        return self

    def conflicts(self) -> Iterator[tuple[Path, str]]:
        """Yield an error for each combination of values that is not allowed: a path below this part, and a sentence."""
        return iter(())
