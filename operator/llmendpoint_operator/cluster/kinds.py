"""The table of all kinds that the operator uses.

The watches, the paths of the client, the list of kinds to prune, the handling of missing kinds, the RBAC rules of the
chart (`make generate`) and the lists in the tests all come from this table. To add a kind of child, add a row here, a
builder in `resources/`, a test and a golden render.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from llmendpoint_common.contracts.cluster import (
    ENDPOINT_LABEL,
    GROUP,
    LLMENDPOINT,
    LOADTEST,
    LOADTEST_SCHEDULE,
    MANAGED_BY,
    MANAGED_BY_LABEL,
    VERSION,
)

_WATCH = ("list", "watch")
# An object is read if the inventory does not have it: its name may be taken by somebody else's object.
_READ = ("get", *_WATCH)
_APPLY = ("create", "patch")


class Role(Enum):
    """The use of a kind by the operator."""

    RESOURCE = "resource"  # one of our resources: users write the spec, and the operator writes the status
    CHILD = "child"  # applied by the operator, and pruned if no longer desired
    OBSERVED = "observed"  # watched, but never written
    REPORTED = "reported"  # Events: created about our resources, and watched if they are warnings
    CONSULTED = "consulted"  # objects of others: watched for conditions, without an owner of ours
    COORDINATED = "coordinated"  # Leases: written by leader election, and watched


@dataclass(frozen=True)
class Kind:
    """A row of the table: the address of a kind in the API, and its use by the operator.

    `owners` are the kinds of our resources that own objects of this kind. A cluster does not have to have an `optional`
    kind. `keeps` are the fields that reconciles read, such as `status` or `spec.replicas`; the inventory does not keep
    any other content of children and pods. `serves` is whether pods or clients use an object of this kind, so that they
    would use somebody else's if it had the name. `fields` and `labels` are selectors: the operator watches only the
    objects that they select. Without `labels`, it watches those with its own label.
    """

    group: str
    version: str
    name: str
    plural: str
    role: Role
    owners: tuple[str, ...] = ()
    optional: bool = False
    verbs: tuple[str, ...] = (*_READ, *_APPLY, "delete")
    keeps: tuple[str, ...] = ()
    serves: bool = True
    fields: str = ""
    labels: str = ""

    @property
    def api_version(self) -> str:
        """The apiVersion of manifests of this kind."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str, name: str = "", subresource: str = "") -> str:
        """Return the path of an object or, if `name` is empty, of all objects in a namespace.

        If `namespace` is empty, it is the path of the objects in all namespaces.
        """
        root = f"/apis/{self.group}" if self.group else "/api"
        scope = ("namespaces", namespace) if namespace else ()
        return "/".join(part for part in (root, self.version, *scope, self.plural, name, subresource) if part)

    @property
    def selectors(self) -> tuple[tuple[str, str], ...]:
        """The query parameters that select the watched objects. All objects that the operator writes have our label."""
        if self.fields:
            return (("fieldSelector", self.fields),)
        if self.role in (Role.RESOURCE, Role.CONSULTED):
            return ()
        return (("labelSelector", self.labels or f"{MANAGED_BY_LABEL}={MANAGED_BY}"),)

    @property
    def cluster_wide(self) -> bool:
        """Whether the kind is only of use to an operator that watches all namespaces."""
        return self.role is Role.CONSULTED

    @property
    def watched(self) -> bool:
        """Whether the operator watches the kind."""
        return "watch" in self.verbs

    @property
    def through_kopf(self) -> bool:
        """Whether kopf watches the kind. Reflectors watch the others (docs/decisions/0021-watches.md)."""
        return self.role in (Role.RESOURCE, Role.COORDINATED)


_BOTH = (LLMENDPOINT, LOADTEST)

TABLE = (
    Kind(GROUP, VERSION, LLMENDPOINT, "llmendpoints", Role.RESOURCE, verbs=_WATCH),
    # The operator deletes a LoadTest after its ttlSecondsAfterFinished, and creates those of schedules.
    Kind(GROUP, VERSION, LOADTEST, "loadtests", Role.RESOURCE, verbs=(*_WATCH, "create", "delete")),
    Kind(GROUP, VERSION, LOADTEST_SCHEDULE, "loadtestschedules", Role.RESOURCE, verbs=_WATCH),
    # Reconciles read only the ConfigMap with the result of a load run.
    Kind("", "v1", "ConfigMap", "configmaps", Role.CHILD, _BOTH, keeps=("data",)),
    Kind("", "v1", "ServiceAccount", "serviceaccounts", Role.CHILD, _BOTH),
    Kind("", "v1", "Service", "services", Role.CHILD, (LLMENDPOINT,)),
    # Kubernetes does not allow to change the claim templates. If they are outgrown, the StatefulSet is replaced.
    Kind(
        "apps",
        "v1",
        "StatefulSet",
        "statefulsets",
        Role.CHILD,
        (LLMENDPOINT,),
        keeps=("spec.replicas", "spec.volumeClaimTemplates", "status"),
    ),
    Kind("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", Role.CHILD, (LLMENDPOINT,), serves=False),
    # One of these two scales the StatefulSet, as the operator's setting says. Their status changes with the load, but
    # only their conditions say whether they work.
    Kind(
        "autoscaling",
        "v2",
        "HorizontalPodAutoscaler",
        "horizontalpodautoscalers",
        Role.CHILD,
        (LLMENDPOINT,),
        keeps=("status.conditions",),
        serves=False,
    ),
    Kind(
        "keda.sh",
        "v1alpha1",
        "ScaledObject",
        "scaledobjects",
        Role.CHILD,
        (LLMENDPOINT,),
        optional=True,
        keeps=("status.conditions",),
        serves=False,
    ),
    Kind(
        "monitoring.coreos.com",
        "v1",
        "ServiceMonitor",
        "servicemonitors",
        Role.CHILD,
        (LLMENDPOINT,),
        optional=True,
        serves=False,
    ),
    Kind(
        "monitoring.coreos.com",
        "v1",
        "PodMonitor",
        "podmonitors",
        Role.CHILD,
        (LLMENDPOINT,),
        optional=True,
        serves=False,
    ),
    Kind("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies", Role.CHILD, (LLMENDPOINT,), serves=False),
    Kind("networking.k8s.io", "v1", "Ingress", "ingresses", Role.CHILD, (LLMENDPOINT,), serves=False),
    Kind(
        "gateway.networking.k8s.io",
        "v1",
        "HTTPRoute",
        "httproutes",
        Role.CHILD,
        (LLMENDPOINT,),
        optional=True,
        serves=False,
    ),
    # The Job of a run that has ended without a result is deleted, so that its pod does not start, or does not continue.
    Kind("batch", "v1", "Job", "jobs", Role.CHILD, (LOADTEST,), keeps=("status",)),
    # Each load run has a Role, which allows its pod to patch the ConfigMap with its result, and nothing else. It is
    # deleted with its LoadTest, by Kubernetes.
    Kind("rbac.authorization.k8s.io", "v1", "Role", "roles", Role.CHILD, (LOADTEST,), verbs=(*_READ, *_APPLY)),
    # The RoleBinding is deleted when the run has ended.
    Kind("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings", Role.CHILD, (LOADTEST,)),
    Kind("", "v1", "Pod", "pods", Role.OBSERVED, _BOTH, verbs=_WATCH, keeps=("status",)),
    # Prometheus servers may be in any namespace. MonitoringReady compares their selectors with a monitor.
    Kind(
        "monitoring.coreos.com",
        "v1",
        "Prometheus",
        "prometheuses",
        Role.CONSULTED,
        optional=True,
        verbs=_WATCH,
    ),
    # The claims of replicas, which the StatefulSet controller creates: watched, and patched if `storage.size` grows. An
    # existing claim that several replicas share is read, because its access modes decide whether they can.
    Kind(
        "",
        "v1",
        "PersistentVolumeClaim",
        "persistentvolumeclaims",
        Role.OBSERVED,
        (LLMENDPOINT,),
        verbs=(*_READ, "patch"),
        keeps=("spec", "status"),
        labels=ENDPOINT_LABEL,
    ),
    Kind("", "v1", "Event", "events", Role.REPORTED, verbs=("create", *_WATCH), fields="type=Warning"),
    Kind("coordination.k8s.io", "v1", "Lease", "leases", Role.COORDINATED, verbs=(*_READ, "create", "update")),
)

KINDS = {kind.name: kind for kind in TABLE}


def children_of(owner: str) -> tuple[Kind, ...]:
    """Return the kinds that the operator applies and prunes for a kind of owner."""
    return tuple(kind for kind in TABLE if kind.role is Role.CHILD and owner in kind.owners)


def watched(scope: str = "") -> tuple[Kind, ...]:
    """Return the kinds that the operator watches in a namespace, or in all namespaces if `scope` is empty."""
    return tuple(kind for kind in TABLE if kind.watched and not (scope and kind.cluster_wide))
