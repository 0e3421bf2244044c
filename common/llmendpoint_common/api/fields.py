"""Types of fields that several resources use, with their schemas, bounds and CEL rules."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic.alias_generators import to_camel

from llmendpoint_common.process.units import DURATION_PATTERN


class ApiModel(BaseModel):
    """An immutable object of the API, with names in camelCase. An unknown field is an error."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True, extra="forbid")


def rules(*pairs: tuple[str, str]) -> dict[str, Any]:
    """Return CEL rules for `json_schema_extra`. Each pair has an expression, and the error message if it is false."""
    return {"x-kubernetes-validations": [{"rule": rule, "message": message} for rule, message in pairs]}


def list_map(key: str) -> dict[str, Any]:
    """Return the schema extensions of a list whose items are identified by one field."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]}


#: Name of a model with its tag, and optionally with a registry: `llama3.2:3b`, `registry.example:5000/library/x:1`.
TAGGED_MODEL_PATTERN = "^([A-Za-z0-9.-]+(:[0-9]+)?/)?([A-Za-z0-9._-]+/)*[A-Za-z0-9._-]+:[A-Za-z0-9._-]+$"

#: A duration such as `250ms`, `15s` or `1h30m`.
Duration = Annotated[str, Field(pattern=DURATION_PATTERN, min_length=2, max_length=32)]
#: A Kubernetes quantity such as `500m` or `8Gi`.
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
        default_factory=dict,
        max_length=16,
        description="Resources that the scheduler reserves for the container, by name, for example cpu: 500m. "
        "For a resource that is not listed, the default of this container applies, if there is one.",
    )
    limits: dict[str, Quantity] = Field(
        default_factory=dict,
        max_length=16,
        description="Maximum resources that the container may use, by name, for example memory: 8Gi. For "
        "a resource that is not listed, the default of this container applies, if there is one.",
    )


class LocalReference(ApiModel):
    """Reference to an object in the same namespace."""

    name: Name = Field(description="Name of the object.")


class EnvironmentVariable(ApiModel):
    """An environment variable of a container."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=128)] = Field(
        description="Name of the environment variable."
    )
    value: Annotated[str, Field(max_length=4096)] = Field(
        description="Value of the environment variable. It is used exactly as written: references such as $(NAME) are "
        "not replaced."
    )


class Toleration(ApiModel):
    """Toleration of a taint, as in a pod."""

    key: ShortText | None = Field(
        None, description="Key of the taint. If absent, operator must be Exists, and every key is tolerated."
    )
    operator: Annotated[str, Field(pattern="^(Exists|Equal)$")] = Field(
        "Equal",
        description="Exists matches every value of the taint, Equal only the value in the field value. Defaults to "
        "Equal.",
    )
    value: ShortText | None = Field(None, description="Value of the taint, if operator is Equal.")
    effect: Annotated[str, Field(pattern="^(NoSchedule|PreferNoSchedule|NoExecute)$")] | None = Field(
        None,
        description="Effect of the taint: NoSchedule, PreferNoSchedule or NoExecute. If absent, every effect is "
        "tolerated.",
    )
    toleration_seconds: int | None = Field(
        None,
        ge=0,
        description="Time in seconds that a pod stays on a node with the taint, if effect is NoExecute. If absent, the "
        "pod is not evicted.",
    )


class ConditionState(ApiModel):
    """A condition, as metav1.Condition defines it."""

    type: str = Field(description="Type of the condition.")
    status: Annotated[str, Field(pattern="^(True|False|Unknown)$")] = Field(
        description="Status of the condition: True, False or Unknown."
    )
    reason: str = Field(
        description="Machine-readable reason for the status, in CamelCase. docs/conditions.md lists all reasons."
    )
    message: str = Field(description="Human-readable details, and advice if something is wrong.")
    observed_generation: int = Field(
        description="Generation of the object for which the condition was computed.",
        json_schema_extra={"format": "int64"},
    )
    last_transition_time: str = Field(
        description="Time at which the status of the condition last changed.", json_schema_extra={"format": "date-time"}
    )
