"""Affinity and topology spread constraints of pods, as Kubernetes defines them, with rules for wrong values.

The label selectors have a default that Kubernetes does not have: the pods of the same LLMEndpoint or LoadTest. In
Kubernetes, an absent selector selects no pod, so that the constraint would have no effect.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from llmendpoint_common.api.fields import ApiModel, LabelKey, LabelValue, ObjectName, list_map, rules
from llmendpoint_common.api.label_selector import LabelSelector

_OWN_PODS = "If absent, the pods of this LLMEndpoint or LoadTest are selected."


class NodeSelectorOperator(StrEnum):
    """Relations between the label of a node and a list of values."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"
    GREATER_THAN = "Gt"
    LESS_THAN = "Lt"


_VALUES_GIVEN = (
    "!(self.operator in ['In', 'NotIn']) || (has(self.values) && self.values.size() > 0)",
    "values is required if operator is In or NotIn",
)
_VALUES_ABSENT = (
    "!(self.operator in ['Exists', 'DoesNotExist']) || !has(self.values) || self.values.size() == 0",
    "values may not be set if operator is Exists or DoesNotExist",
)
_VALUE_IS_NUMBER = (
    "!(self.operator in ['Gt', 'Lt']) || (has(self.values) && self.values.size() == 1 && "
    "self.values[0].matches('^[0-9]+$'))",
    "values must be one integer if operator is Gt or Lt",
)


class NodeSelectorRequirement(ApiModel):
    """A requirement on one label of a node."""

    model_config = ConfigDict(json_schema_extra=rules(_VALUES_GIVEN, _VALUES_ABSENT, _VALUE_IS_NUMBER))

    key: LabelKey = Field(description="Key of the label.")
    operator: NodeSelectorOperator = Field(
        description="In and NotIn compare the value of the label with the list in the field values. Exists and "
        "DoesNotExist only look at the key. Gt and Lt compare the value as an integer with the one in values."
    )
    values: list[LabelValue] = Field(
        default_factory=list,
        max_length=32,
        description="Values for In and NotIn, or one integer for Gt and Lt. Not allowed with Exists and DoesNotExist.",
    )


class NodeFieldRequirement(ApiModel):
    """A requirement on the name of a node, the only field by which Kubernetes selects nodes."""

    key: Annotated[str, Field(pattern=r"^metadata\.name$")] = Field(
        description="Path of the field. Kubernetes only allows metadata.name."
    )
    operator: Annotated[str, Field(pattern="^(In|NotIn)$")] = Field(
        description="In or NotIn: whether the node must have this name, or another one."
    )
    values: list[ObjectName] = Field(min_length=1, max_length=1, description="Name of a node. The list has one item.")


class NodeSelectorTerm(ApiModel):
    """Requirements on a node, all of which must hold."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "(has(self.matchExpressions) && self.matchExpressions.size() > 0) || "
                "(has(self.matchFields) && self.matchFields.size() > 0)",
                "a term needs matchExpressions or matchFields; an empty term selects no node",
            )
        )
    )

    match_expressions: list[NodeSelectorRequirement] = Field(
        default_factory=list, max_length=16, description="Requirements on labels of the node."
    )
    match_fields: list[NodeFieldRequirement] = Field(
        default_factory=list, max_length=4, description="Requirements on the name of the node."
    )


class NodeSelector(ApiModel):
    """Nodes on which a pod may run."""

    node_selector_terms: list[NodeSelectorTerm] = Field(
        min_length=1, max_length=16, description="Terms, at least one of which must hold for a node."
    )


class PreferredNodes(ApiModel):
    """Nodes that the scheduler prefers."""

    weight: int = Field(ge=1, le=100, description="Weight of the preference, from 1 to 100.")
    preference: NodeSelectorTerm = Field(description="Requirements on a node, all of which must hold.")


class NodeAffinity(ApiModel):
    """Nodes on which pods must, or preferably should, run."""

    required_during_scheduling_ignored_during_execution: NodeSelector | None = Field(
        None,
        description="Nodes on which the pods may run. In an LLMEndpoint with gpu.products, those must hold too. Pods "
        "that already run stay when the labels of their node change. If absent, every node is allowed.",
    )
    preferred_during_scheduling_ignored_during_execution: list[PreferredNodes] = Field(
        default_factory=list,
        max_length=16,
        description="Nodes that the scheduler prefers, if a pod can run on several. It adds the weights of the "
        "preferences that hold for a node.",
    )


class PodAffinityTerm(ApiModel):
    """Other pods, and the topology in which to look for them."""

    label_selector: LabelSelector | None = Field(None, description=f"Labels of the other pods. {_OWN_PODS}")
    topology_key: LabelKey = Field(
        description="Label of nodes. Nodes with the same value of it are one place, for example kubernetes.io/hostname "
        "for one node, or topology.kubernetes.io/zone for one zone."
    )
    namespaces: list[ObjectName] = Field(
        default_factory=list,
        max_length=32,
        description="Names of the namespaces of the other pods. If neither this nor namespaceSelector is set, it is "
        "the namespace of the pod.",
    )
    namespace_selector: LabelSelector | None = Field(
        None,
        description="Labels of the namespaces of the other pods. An empty selector selects all namespaces. If absent, "
        "only those in the field namespaces count.",
    )


class WeightedPodAffinityTerm(ApiModel):
    """A preference of the scheduler that depends on other pods."""

    weight: int = Field(ge=1, le=100, description="Weight of the preference, from 1 to 100.")
    pod_affinity_term: PodAffinityTerm = Field(description="Other pods, and the topology in which to look for them.")


class PodAffinity(ApiModel):
    """Rules that place a pod near other pods, or away from them."""

    required_during_scheduling_ignored_during_execution: list[PodAffinityTerm] = Field(
        default_factory=list, max_length=16, description="Terms, all of which must hold when a pod is scheduled."
    )
    preferred_during_scheduling_ignored_during_execution: list[WeightedPodAffinityTerm] = Field(
        default_factory=list,
        max_length=16,
        description="Terms that the scheduler prefers. It adds the weights of those that hold for a node.",
    )


class Affinity(ApiModel):
    """Scheduling constraints of pods that depend on nodes and on other pods."""

    node_affinity: NodeAffinity | None = Field(
        None,
        description="Nodes on which the pods must, or preferably should, run. If absent, no such rule applies.",
    )
    pod_affinity: PodAffinity | None = Field(
        None,
        description="Rules that place the pods near other pods: required rules and preferred rules. If absent, no "
        "such rule applies.",
    )
    pod_anti_affinity: PodAffinity | None = Field(
        None,
        description="Other pods from which the pods must, or preferably should, be separated, for example from each "
        "other, so that each pod is on another node. If absent, no such rule applies.",
    )


class Unsatisfiable(StrEnum):
    """What the scheduler does with a pod that would violate a topology spread constraint."""

    DO_NOT_SCHEDULE = "DoNotSchedule"
    SCHEDULE_ANYWAY = "ScheduleAnyway"


class NodeInclusion(StrEnum):
    """Whether the affinity or the taints of nodes decide which nodes count."""

    HONOR = "Honor"
    IGNORE = "Ignore"


class TopologySpreadConstraint(ApiModel):
    """How evenly pods are spread among nodes, zones or other domains."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "!has(self.minDomains) || self.whenUnsatisfiable == 'DoNotSchedule'",
                "minDomains may only be set if whenUnsatisfiable is DoNotSchedule",
            ),
            (
                "!has(self.matchLabelKeys) || !has(self.labelSelector) || self.matchLabelKeys.all(k, "
                "(!has(self.labelSelector.matchLabels) || !(k in self.labelSelector.matchLabels)) && "
                "(!has(self.labelSelector.matchExpressions) || "
                "self.labelSelector.matchExpressions.all(e, e.key != k)))",
                "matchLabelKeys must not name a label of labelSelector",
            ),
        )
    )

    max_skew: int = Field(
        1,
        ge=1,
        le=1000,
        description="Maximum difference between the numbers of selected pods in two domains. Defaults to 1.",
    )
    topology_key: LabelKey = Field(
        description="Label of nodes. Nodes with the same value of it are one domain, for example "
        "kubernetes.io/hostname or topology.kubernetes.io/zone."
    )
    when_unsatisfiable: Unsatisfiable = Field(
        description="DoNotSchedule keeps a pod that would exceed maxSkew from being scheduled. ScheduleAnyway only "
        "prefers other nodes. There is no default, as in Kubernetes."
    )
    label_selector: LabelSelector | None = Field(None, description=f"Labels of the pods that are counted. {_OWN_PODS}")
    min_domains: int | None = Field(
        None,
        ge=1,
        le=1000,
        description="Minimum number of domains. While there are fewer, the smallest number of pods in a domain counts "
        "as 0. Only allowed with DoNotSchedule. If absent, it is 1.",
    )
    node_affinity_policy: NodeInclusion | None = Field(
        None,
        description="Honor counts only nodes that match the nodeSelector and the affinity of the pods, Ignore counts "
        "all nodes. If absent, Kubernetes uses Honor.",
    )
    node_taints_policy: NodeInclusion | None = Field(
        None,
        description="Honor leaves out nodes with taints that the pods do not tolerate, Ignore counts them. If absent, "
        "Kubernetes uses Ignore.",
    )
    match_label_keys: list[LabelKey] = Field(
        default_factory=list,
        max_length=8,
        description="Keys of labels of the pod. Only pods with the same values of them are counted, for example "
        "controller-revision-hash, so that an update is spread by itself.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )


TOPOLOGY_KEYS = list_map("topologyKey", "whenUnsatisfiable")
