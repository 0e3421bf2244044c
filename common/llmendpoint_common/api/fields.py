"""Types that both resources use: each carries its schema, its bounds and its rules."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic.alias_generators import to_camel

from llmendpoint_common.process.units import DURATION_PATTERN


class ApiModel(BaseModel):
    """A frozen object of the API, in camelCase; what is not known is an error."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True, extra="forbid")


def rules(*pairs: tuple[str, str]) -> dict[str, Any]:
    """Return CEL rules, each with its sentence, for `json_schema_extra`."""
    return {"x-kubernetes-validations": [{"rule": rule, "message": message} for rule, message in pairs]}


def list_map(key: str) -> dict[str, Any]:
    """Return the marks of a list whose items are known by one field."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]}


Duration = Annotated[str, Field(pattern=DURATION_PATTERN, min_length=2, max_length=32)]
#: A number without a float: `2`, `0.5`; YAML may write it with or without quotes.
Decimal = Annotated[
    str,
    BeforeValidator(str),
    Field(pattern=r"^[0-9]+(\.[0-9]+)?$"),
    WithJsonSchema({"x-kubernetes-int-or-string": True, "pattern": r"^[0-9]+(\.[0-9]+)?$"}),
]
Quantity = Annotated[
    str,
    BeforeValidator(str),
    WithJsonSchema(
        {
            "x-kubernetes-int-or-string": True,
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "pattern": r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$",
        }
    ),
]
Name = Annotated[str, Field(min_length=1, max_length=253)]
ShortText = Annotated[str, Field(max_length=1024)]


class Resources(ApiModel):
    """Compute resources of a container, as in a pod."""

    requests: dict[str, Quantity] = Field(
        default_factory=dict, description="What the scheduler sets aside.", max_length=16
    )
    limits: dict[str, Quantity] = Field(
        default_factory=dict, description="What the container may use at most.", max_length=16
    )


class LocalReference(ApiModel):
    """An object in the same namespace."""

    name: Name = Field(description="Its name.")


class EnvironmentVariable(ApiModel):
    """One environment variable."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=128)] = Field(description="Its name.")
    value: Annotated[str, Field(max_length=4096)] = Field(description="Its value.")


class Toleration(ApiModel):
    """A taint that the pods tolerate, as in a pod."""

    key: ShortText | None = Field(None, description="Key of the taint; absent with Exists means all.")
    operator: Annotated[str, Field(pattern="^(Exists|Equal)$")] = Field("Equal", description="Exists or Equal.")
    value: ShortText | None = Field(None, description="Value of the taint, for Equal.")
    effect: Annotated[str, Field(pattern="^(NoSchedule|PreferNoSchedule|NoExecute)$")] | None = Field(
        None, description="Effect of the taint; absent means all."
    )
    toleration_seconds: int | None = Field(None, ge=0, description="How long to stay, for NoExecute.")


class ConditionState(ApiModel):
    """A condition, as in metav1.Condition."""

    type: str = Field(description="Name of the condition.")
    status: Annotated[str, Field(pattern="^(True|False|Unknown)$")] = Field(description="True, False or Unknown.")
    reason: str = Field(description="A documented CamelCase word.")
    message: str = Field(description="What to do.")
    observed_generation: int = Field(
        description="Generation of the spec that this speaks of.", json_schema_extra={"format": "int64"}
    )
    last_transition_time: str = Field(description="When the status changed.", json_schema_extra={"format": "date-time"})
