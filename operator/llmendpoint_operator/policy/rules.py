"""The rules of the policy: the fields that each one covers, and how it compares their values with the allowed ones.

Evaluating a policy is a function of the policy and a spec. Fields that are absent are always allowed: the operator's
own settings apply to them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from llmendpoint_common.api.endpoint.network import ServiceType
from llmendpoint_common.api.endpoint.spec import LLMEndpointSpec
from llmendpoint_common.api.fields import LocalReference
from llmendpoint_common.api.loadtest.spec import LoadTestSpec
from llmendpoint_common.contracts.cluster import LLMENDPOINT, LOADTEST
from llmendpoint_operator.policy import pods
from llmendpoint_operator.policy.document import Policy
from llmendpoint_operator.policy.use import Use, Uses

_SHOWN_CHARACTERS = 200
_SHOWN_VALUES = 5
DEFAULT_REGISTRY = "docker.io"


class Violation(NamedTuple):
    """A value that a rule of the policy does not allow."""

    rule: str
    use: Use
    allowed: Sequence[str]

    @property
    def message(self) -> str:
        """A sentence that names the rule, the field and the value."""
        shown = ", ".join(self.allowed[:_SHOWN_VALUES]) + (", …" if len(self.allowed) > _SHOWN_VALUES else "")
        return (
            f"{self.use.field}: the operator's policy does not allow {self.use.value[:_SHOWN_CHARACTERS]!r} "
            f"(rule {self.rule}: {shown or 'no value is allowed'})."
        )


@dataclass(frozen=True)
class Rule:
    """A rule. `uses` yields the covered values of a spec, by kind of resource."""

    name: str
    allowed: Callable[[Policy], Sequence[str] | None]
    allows: Callable[[str, str], bool]
    uses: Mapping[str, Callable[[Any], Uses]]

    def violations(self, policy: Policy, kind: str, spec: Any) -> Iterator[Violation]:
        """Yield the values of a spec that the policy does not allow."""
        allowed = self.allowed(policy)
        if allowed is None or kind not in self.uses:
            return
        for use in self.uses[kind](spec):
            if not any(self.allows(item, use.value) for item in allowed):
                yield Violation(self.name, use, allowed)


def violations(policy: Policy, kind: str, spec: Any) -> tuple[Violation, ...]:
    """Return every value of a spec that the policy does not allow."""
    return tuple(violation for rule in RULES for violation in rule.violations(policy, kind, spec))


def violations_of_template(policy: Policy, spec: LoadTestSpec) -> tuple[Violation, ...]:
    """Return every value in the template of a schedule that the policy does not allow, with its path."""
    return tuple(
        violation._replace(use=violation.use._replace(field=f"spec.template.{violation.use.field}"))
        for violation in violations(policy, LOADTEST, spec)
    )


def sentences(found: Iterable[Violation]) -> str:
    """Return the messages of violations as one text, with advice."""
    return " ".join([*(violation.message for violation in found), "Change the field, or ask for another policy."])


# Comparisons of an allowed value with a value of a spec.


def is_image_below(prefix: str, image: str) -> bool:
    """Return whether an image is in the registry, folder or repository that a prefix names.

    A prefix ends where a component of the name ends: `registry.example` covers neither `registry.example.org/a` nor
    `registry.example:5000/a`.
    """
    name = full_image_name(image)
    if prefix.endswith("/"):
        return name.startswith(prefix)
    ends = ("/", ":", "@") if "/" in prefix else ("/",)
    return name == prefix or name.startswith(tuple(f"{prefix}{end}" for end in ends))


def full_image_name(image: str) -> str:
    """Return the name of an image with its registry, as Docker and containerd complete it.

    The rules are those of `distribution/reference`: without a registry, the name is one of docker.io, and without a
    folder, one of its folder `library`.
    """
    first, separator, rest = image.partition("/")
    is_registry = "." in first or ":" in first or first == "localhost" or first != first.lower()
    registry, name = (first, rest) if separator and is_registry else (DEFAULT_REGISTRY, image)
    if registry == "index.docker.io":
        registry = DEFAULT_REGISTRY
    if registry == DEFAULT_REGISTRY and "/" not in name:
        name = f"library/{name}"
    return f"{registry}/{name}"


def is_equal(allowed: str, value: str) -> bool:
    """Return whether two values are equal."""
    return allowed == value


def is_prefix(allowed: str, value: str) -> bool:
    """Return whether a value begins with a prefix."""
    return value.startswith(allowed)


def matches(pattern: str, value: str) -> bool:
    """Return whether a value matches a pattern of `*`, `?` and `[…]`, case-sensitive."""
    return fnmatchcase(value, pattern)


def matches_host(pattern: str, host: str) -> bool:
    """Return whether a host, in lower case, matches a pattern. The case of the pattern has no meaning."""
    return fnmatchcase(host, pattern.lower())


# The values of specs, by rule.


def _given(field: str, *values: str | None) -> Uses:
    yield from (Use(field, value) for value in values if value is not None)


def _named(field: str, references: Iterable[LocalReference]) -> Uses:
    yield from (Use(f"{field}[{index}].name", reference.name) for index, reference in enumerate(references))


def _endpoint_images(spec: LLMEndpointSpec) -> Uses:
    yield from _given("spec.ollama.image", spec.ollama.image)
    yield from _given("spec.metering.image", spec.metering.image)
    yield from pods.pod_images(spec)


def _priority_class(spec: LLMEndpointSpec | LoadTestSpec) -> Uses:
    return _given("spec.pod.priorityClassName", spec.pod.priority_class_name)


def _service_type(spec: LLMEndpointSpec) -> Uses:
    # ClusterIP is the default and reaches nobody outside the cluster.
    if spec.service.type is not ServiceType.CLUSTER_IP:
        yield Use("spec.service.type", spec.service.type)


def _host_names(spec: LLMEndpointSpec) -> Uses:
    if spec.ingress is not None:
        yield Use("spec.ingress.host", spec.ingress.host)
    if spec.http_route is not None:
        # Without names, the route gets the requests for every name of the listeners.
        yield from _given("spec.httpRoute.hostnames", *(spec.http_route.hostnames or ["*"]))


def _ingress_class(spec: LLMEndpointSpec) -> Uses:
    if spec.ingress is not None:
        yield from _given("spec.ingress.className", spec.ingress.class_name)


def _ingress_annotations(spec: LLMEndpointSpec) -> Uses:
    if spec.ingress is not None:
        yield from _given("spec.ingress.annotations", *spec.ingress.annotations)


def _endpoint_secrets(spec: LLMEndpointSpec) -> Uses:
    if spec.ingress is not None:
        yield from _given("spec.ingress.tlsSecretName", spec.ingress.tls_secret_name)
    if spec.metering.auth is not None:
        yield from _named("spec.metering.auth.secretRefs", spec.metering.auth.secret_refs)
    yield from _named("spec.pod.imagePullSecrets", spec.pod.image_pull_secrets)


def _loadtest_secrets(spec: LoadTestSpec) -> Uses:
    if spec.request.api_key_secret_ref is not None:
        yield Use("spec.request.apiKeySecretRef.name", spec.request.api_key_secret_ref.name)
    yield from _named("spec.pod.imagePullSecrets", spec.pod.image_pull_secrets)


def _pod_labels(spec: LLMEndpointSpec | LoadTestSpec) -> Uses:
    return _given("spec.pod.labels", *spec.pod.labels)


def _target_host(spec: LoadTestSpec) -> Uses:
    if spec.target is not None:
        yield Use("spec.target.url", host_of(spec.target.url))


def host_of(url: str) -> str:
    """Return the host to which the load generator connects, in lower case, or an empty string if there is none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _loadtest_claims(spec: LoadTestSpec) -> Uses:
    if spec.results is not None:
        yield Use("spec.results.persistentVolumeClaim.claimName", spec.results.persistent_volume_claim.claim_name)


def _toleration_keys(spec: LLMEndpointSpec | LoadTestSpec) -> Uses:
    """Yield the keys of the tolerated taints. A toleration without a key tolerates every taint: only `*` allows it."""
    for index, toleration in enumerate(spec.pod.tolerations):
        yield Use(f"spec.pod.tolerations[{index}].key", toleration.key or "")


RULES = (
    Rule("imagePrefixes", lambda policy: policy.image_prefixes, is_image_below, {LLMENDPOINT: _endpoint_images}),
    Rule(
        "priorityClasses",
        lambda policy: policy.priority_classes,
        is_equal,
        {LLMENDPOINT: _priority_class, LOADTEST: _priority_class},
    ),
    Rule("serviceTypes", lambda policy: policy.service_types, is_equal, {LLMENDPOINT: _service_type}),
    Rule("hostNames", lambda policy: policy.host_names, matches_host, {LLMENDPOINT: _host_names}),
    Rule("ingressClasses", lambda policy: policy.ingress_classes, is_equal, {LLMENDPOINT: _ingress_class}),
    Rule("ingressAnnotations", lambda policy: policy.ingress_annotations, matches, {LLMENDPOINT: _ingress_annotations}),
    Rule(
        "secretNames",
        lambda policy: policy.secret_names,
        matches,
        {LLMENDPOINT: _endpoint_secrets, LOADTEST: _loadtest_secrets},
    ),
    Rule(
        "podLabelPrefixes",
        lambda policy: policy.pod_label_prefixes,
        is_prefix,
        {LLMENDPOINT: _pod_labels, LOADTEST: _pod_labels},
    ),
    Rule("targetHosts", lambda policy: policy.target_hosts, matches_host, {LOADTEST: _target_host}),
    Rule(
        "tolerationKeys",
        lambda policy: policy.toleration_keys,
        matches,
        {LLMENDPOINT: _toleration_keys, LOADTEST: _toleration_keys},
    ),
    Rule(
        "serviceAccountNames",
        lambda policy: policy.service_account_names,
        matches,
        {LLMENDPOINT: pods.service_account},
    ),
    Rule(
        "claimNames",
        lambda policy: policy.claim_names,
        matches,
        {LLMENDPOINT: pods.claims, LOADTEST: _loadtest_claims},
    ),
    Rule("volumeTypes", lambda policy: policy.volume_types, is_equal, {LLMENDPOINT: pods.volume_types}),
    Rule("podTemplateFields", lambda policy: policy.pod_template_fields, matches, {LLMENDPOINT: pods.template_fields}),
)
