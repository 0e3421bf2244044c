"""Types of fields that several resources use, with their schemas, bounds and CEL rules."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic.alias_generators import to_camel

from llmendpoint_common.api.quantity import QUANTITY_PATTERN, parse_quantity
from llmendpoint_common.contracts.cluster import (
    GROUP,
    OWN_LABELS,
    RESERVED_LABELS,
    STATEFULSET_LABELS,
    STATEFULSET_LABELS_ARE_RESERVED,
)
from llmendpoint_common.process.units import DURATION_PATTERN


class ApiModel(BaseModel):
    """An immutable object of the API, with names in camelCase. An unknown field is an error."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True, extra="forbid")


def rules(*pairs: tuple[str, str]) -> dict[str, Any]:
    """Return CEL rules for `json_schema_extra`. Each pair has an expression, and the error message if it is false."""
    return {"x-kubernetes-validations": [{"rule": rule, "message": message} for rule, message in pairs]}


def cel_list(texts: Iterable[str]) -> str:
    """Return a CEL list of texts, which must not have quotes or backslashes."""
    return str([*texts])


def list_map(*keys: str) -> dict[str, Any]:
    """Return the schema extensions of a list whose items are identified by one field, or by several together."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [*keys]}


#: Name of a model with its tag, and optionally with a registry: `llama3.2:3b`, `registry.example:5000/library/x:1`.
TAGGED_MODEL_PATTERN = "^([A-Za-z0-9.-]+(:[0-9]+)?/)?([A-Za-z0-9._-]+/)*[A-Za-z0-9._-]+:[A-Za-z0-9._-]+$"

#: A duration such as `250ms`, `15s` or `1h30m`.
Duration = Annotated[str, Field(pattern=DURATION_PATTERN, min_length=2, max_length=32)]
#: CEL rule of a duration of at most 30 days, so that times computed from it fit into all types. CEL's duration() fails
#: for more than 292 years, so longer texts are refused before.
BOUNDED_DURATION = (
    "!self.matches('[0-9]{9}|[0-9]{5}h') && duration(self) <= duration('720h')",
    "must be at most 720h (30 days); write it like 90s or 5m",
)
#: CEL rule of a duration that is neither 0 nor longer than 30 days.
POSITIVE_DURATION = (
    f"self.matches('[1-9]') && {BOUNDED_DURATION[0]}",
    "must be longer than 0 and at most 720h (30 days); write it like 90s or 5m",
)
#: A TCP port from 1 to 65535.
PORT_PATTERN = r"(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[1-9][0-9]{0,3})"
#: A percentage from `1%` to `100%`, without decimals.
Percentage = Annotated[str, Field(pattern="^([1-9][0-9]?|100)%$", max_length=4)]


def _quantity(text: str) -> str:
    parse_quantity(text)
    return text


#: A Kubernetes quantity such as `500m` or `8Gi`. The length is bounded, because the cost of CEL rules depends on it.
Quantity = Annotated[
    str,
    BeforeValidator(str),
    AfterValidator(_quantity),
    WithJsonSchema(
        {
            "x-kubernetes-int-or-string": True,
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "pattern": QUANTITY_PATTERN,
            "maxLength": 32,
        }
    ),
]
#: Kubelet does not evict a pod for a limit of 0 (`emptyDirLimitEviction`), so such a limit would have no effect.
NO_LIMIT_OF_ZERO = "must be greater than zero, because Kubernetes ignores a limit of 0"


def above_zero(field: str) -> str:
    """Return a CEL expression that is true if a field with a quantity is absent or more than 0."""
    return f"!has(self.{field}) || quantity(string(self.{field})).compareTo(quantity('0')) > 0"


Name = Annotated[str, Field(min_length=1, max_length=253)]
ShortText = Annotated[str, Field(max_length=1024)]

# The patterns of the next types are only in the schema. An object that was stored before they existed is not an error
# for the operator: the API server refuses the child, and the status quotes it.
DNS_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
SUBDOMAIN = rf"{DNS_LABEL}(\.{DNS_LABEL})*"
#: Name of an object in the cluster: a DNS subdomain.
ObjectName = Annotated[
    Name, WithJsonSchema({"type": "string", "minLength": 1, "maxLength": 253, "pattern": f"^{SUBDOMAIN}$"})
]
#: Name of a class in the cluster, or an empty text for none.
ClassName = Annotated[
    str, Field(max_length=253), WithJsonSchema({"type": "string", "maxLength": 253, "pattern": f"^({SUBDOMAIN})?$"})
]
_HOST = rf"^(\*\.)?{SUBDOMAIN}$"
#: A DNS host name in lower case, or a wildcard such as `*.example.com`. Neither an IP address nor a port.
HostName = Annotated[
    Name,
    WithJsonSchema(
        {
            "type": "string",
            "minLength": 1,
            "maxLength": 253,
            "pattern": _HOST,
            **rules(("!self.matches('^[0-9.]+$')", "must be a host name, not an IP address")),
        }
    ),
]
#: Key of a ConfigMap or Secret.
DataKey = Annotated[str, Field(pattern=r"^[-._a-zA-Z0-9]+$", min_length=1, max_length=253)]
# The grammar of https://github.com/distribution/reference. Container runtimes refuse other references.
_IMAGE_HOST = "([A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?|[[][0-9a-fA-F:]+[]])(:[0-9]+)?"
_IMAGE_PART = "[a-z0-9]+(([.]|_|__|-+)[a-z0-9]+)*"
_IMAGE = (
    f"^({_IMAGE_HOST}/)?{_IMAGE_PART}(/{_IMAGE_PART})*(:[A-Za-z0-9_][-A-Za-z0-9_.]{{0,127}})?"
    "(@[a-z0-9]+([-+._][a-z0-9]+)*:[0-9a-fA-F]{32,})?$"
)
#: Reference of a container image.
Image = Annotated[
    ShortText,
    WithJsonSchema(
        {
            "type": "string",
            "maxLength": 1024,
            **rules(
                (
                    f"self.matches('{_IMAGE}')",
                    "must be the reference of an image, for example registry.example/ollama:0.17.4 or ollama@sha256:…",
                )
            ),
        }
    ),
]

LABEL_NAME = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_LABEL_KEY = rf"^({SUBDOMAIN}/)?{LABEL_NAME}$"
# Kubernetes compares the domain of an annotation without regard to case.
_ANNOTATION_KEY = rf"^({SUBDOMAIN.replace('a-z', 'A-Za-z')}/)?{LABEL_NAME}$"
_KEY_RULE = (
    "must be valid: an optional DNS subdomain and a slash, then at most 63 letters, digits, dashes, underscores and "
    "dots, which begin and end with a letter or digit"
)


def _keys(pattern: str, name: str) -> tuple[str, str]:
    """Return a CEL rule for the keys of a map."""
    expression = f"self.all(k, k.size() <= 317 && k.matches('{pattern}'))"
    return expression.replace("\\", "\\\\"), f"each {name} {_KEY_RULE}"


#: Key of a label.
LabelKey = Annotated[
    ShortText, WithJsonSchema({"type": "string", "minLength": 1, "maxLength": 317, "pattern": _LABEL_KEY})
]
#: Value of a label.
LabelValue = Annotated[
    ShortText,
    WithJsonSchema({"type": "string", "maxLength": 63, "pattern": r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$"}),
]
_LABEL_KEYS = _keys(_LABEL_KEY, "key of a label")
_ADDED_KEYS = (
    f"self.all(k, !k.startsWith('{GROUP}/') && !(k in {cel_list(OWN_LABELS)}))",
    RESERVED_LABELS,
)
_POD_KEYS = (f"self.all(k, !(k in {cel_list(STATEFULSET_LABELS)}))", STATEFULSET_LABELS_ARE_RESERVED)
#: Labels that an object must have.
Labels = Annotated[dict[str, LabelValue], Field(max_length=64, json_schema_extra=rules(_LABEL_KEYS))]
#: Labels that are added to those that the operator sets on an object.
AddedLabels = Annotated[dict[str, LabelValue], Field(max_length=64, json_schema_extra=rules(_LABEL_KEYS, _ADDED_KEYS))]
#: Labels that are added to those that the operator and the StatefulSet controller set on a pod.
AddedPodLabels = Annotated[
    dict[str, LabelValue], Field(max_length=64, json_schema_extra=rules(_LABEL_KEYS, _ADDED_KEYS, _POD_KEYS))
]
_ANNOTATION_KEYS = _keys(_ANNOTATION_KEY, "key of an annotation")
#: Annotations of an object.
Annotations = Annotated[dict[str, ShortText], Field(max_length=64, json_schema_extra=rules(_ANNOTATION_KEYS))]
# The Pod Security Standards refuse pods with AppArmor annotations, also in versions that have a field for the profile.
# Versions before 1.27 also read those of seccomp; later ones ignore them.
_PROFILES = (
    "self.all(k, !k.matches("
    "'^(container[.])?(apparmor[.]security[.]beta|seccomp[.]security[.]alpha)[.]kubernetes[.]io/'))",
    "annotations of AppArmor and seccomp profiles are not allowed, because the restricted Pod Security Standard fixes "
    "the profiles; remove them",
)
#: Annotations of pods.
PodAnnotations = Annotated[
    dict[str, ShortText], Field(max_length=64, json_schema_extra=rules(_ANNOTATION_KEYS, _PROFILES))
]

_NAMES = ("requests", "limits")
#: CEL rules between requests and limits. An extended resource, such as a GPU, cannot be overcommitted.
_RESOURCE_RULES = (
    (
        "!has(self.requests) || !has(self.limits) || self.requests.all(k, !(k in self.limits) || "
        "quantity(string(self.requests[k])).compareTo(quantity(string(self.limits[k]))) <= 0)",
        "a request must not be above the limit of the same resource",
    ),
    (
        "!has(self.requests) || !has(self.limits) || self.requests.all(k, !(k in self.limits) || !k.contains('/') || "
        "quantity(string(self.requests[k])).compareTo(quantity(string(self.limits[k]))) == 0)",
        "the request and the limit of an extended resource, such as a GPU, must be equal",
    ),
    *(
        (
            f"!has(self.{name}) || self.{name}.all(k, k in ['cpu', 'memory', 'ephemeral-storage'] || "
            "k.startsWith('hugepages-') || k.contains('/'))",
            f"{name} may name cpu, memory, ephemeral-storage, hugepages-SIZE, and extended resources such as "
            "nvidia.com/gpu",
        )
        for name in _NAMES
    ),
)


class Resources(ApiModel):
    """Compute resources of a container, as in a pod."""

    model_config = ConfigDict(json_schema_extra=rules(*_RESOURCE_RULES))

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

    name: ObjectName = Field(description="Name of the object. It must be in the same namespace.")


class SecretReference(LocalReference):
    """Reference to a Secret in the same namespace."""

    name: ObjectName = Field(description="Name of the Secret. It must be in the same namespace.")


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

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "(has(self.key) && self.key != '') || self.operator == 'Exists'",
                "key is required unless operator is Exists, which then tolerates every taint",
            ),
            (
                "self.operator != 'Exists' || !has(self.value) || self.value == ''",
                "value may only be set if operator is Equal",
            ),
            (
                "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
                "tolerationSeconds may only be set if effect is NoExecute",
            ),
        )
    )

    key: (
        Annotated[ShortText, WithJsonSchema({"type": "string", "maxLength": 317, "pattern": f"{_LABEL_KEY[:-1]}$|^$"})]
        | None
    ) = Field(None, description="Key of the taint. If absent, operator must be Exists, and every key is tolerated.")
    operator: Annotated[str, Field(pattern="^(Exists|Equal)$")] = Field(
        "Equal",
        description="Exists matches every value of the taint, Equal only the value in the field value. Defaults to "
        "Equal.",
    )
    value: LabelValue | None = Field(None, description="Value of the taint, if operator is Equal.")
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
