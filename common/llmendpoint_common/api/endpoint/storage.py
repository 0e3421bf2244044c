"""`spec.storage` of an LLMEndpoint: storage for the models of each replica."""

from __future__ import annotations

from enum import StrEnum

from pydantic import ConfigDict, Field

from llmendpoint_common.api import defaults
from llmendpoint_common.api.fields import (
    NO_LIMIT_OF_ZERO,
    ApiModel,
    ClassName,
    ObjectName,
    Quantity,
    above_zero,
    rules,
)


class RetentionAction(StrEnum):
    """Actions on the claims of removed replicas."""

    RETAIN = "Retain"
    DELETE = "Delete"


class RetentionPolicy(ApiModel):
    """Retention of the replicas' claims, if type is PersistentVolumeClaim, and of removed models."""

    when_deleted: RetentionAction = Field(
        RetentionAction.RETAIN,
        description="Retain keeps the claims when the endpoint is deleted. Delete deletes them, and is only allowed "
        "with type PersistentVolumeClaim. Defaults to Retain.",
    )
    when_scaled: RetentionAction = Field(
        RetentionAction.RETAIN,
        description="Retain keeps the claims of replicas that are removed by scaling down. Delete deletes them, and is "
        "only allowed with type PersistentVolumeClaim. Defaults to Retain.",
    )
    when_model_removed: RetentionAction = Field(
        RetentionAction.RETAIN,
        description="Retain keeps models on disk that are removed from spec.models. Delete deletes every model that "
        "spec.models does not name, on each replica, after all models of spec.models are ready. It can be changed at "
        "any time. Delete is not allowed if others can add models: with type ExistingClaim, with "
        "metering.modelManagement Allowed, and with metering.mode Exporter. Defaults to Retain.",
    )


class StorageType(StrEnum):
    """Kinds of storage for models."""

    PERSISTENT_VOLUME_CLAIM = "PersistentVolumeClaim"
    EXISTING_CLAIM = "ExistingClaim"
    EPHEMERAL = "Ephemeral"


class Storage(ApiModel):
    """Storage for the models of each replica. Only size, which may grow, and retentionPolicy can be changed."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "self.type == 'ExistingClaim' || !has(self.claimName)",
                "claimName may only be set if type is ExistingClaim",
            ),
            ("self.type != 'ExistingClaim' || has(self.claimName)", "claimName is required if type is ExistingClaim"),
            ("self.type == 'Ephemeral' || !has(self.sizeLimit)", "sizeLimit may only be set if type is Ephemeral"),
            (
                "self.type == 'PersistentVolumeClaim' || (!has(self.size) && !has(self.storageClassName))",
                "size and storageClassName may only be set if type is PersistentVolumeClaim",
            ),
            (
                "self.type == 'PersistentVolumeClaim' || !has(self.retentionPolicy) || "
                "(self.retentionPolicy.whenDeleted == 'Retain' && self.retentionPolicy.whenScaled == 'Retain')",
                "retentionPolicy.whenDeleted and retentionPolicy.whenScaled may only be Delete if type is "
                "PersistentVolumeClaim, because the other types have no claim per replica",
            ),
            (
                above_zero("size"),
                "size must be greater than zero",
            ),
            (above_zero("sizeLimit"), f"sizeLimit {NO_LIMIT_OF_ZERO}"),
        )
    )

    type: StorageType = Field(
        StorageType.PERSISTENT_VOLUME_CLAIM,
        description="PersistentVolumeClaim creates a claim for each replica. ExistingClaim uses one existing claim for "
        "all replicas. Ephemeral keeps the models on the node until the pod is deleted. Defaults to "
        "PersistentVolumeClaim.",
    )
    size: Quantity | None = Field(
        None,
        description="Size of each replica's claim. It may only grow, and only if the StorageClass allows it "
        "(allowVolumeExpansion). Pods are not restarted. Only allowed with type PersistentVolumeClaim. "
        f"Defaults to {defaults.STORAGE_SIZE}.",
    )
    storage_class_name: ClassName | None = Field(
        None,
        description="StorageClass of the claims. Only allowed with type PersistentVolumeClaim. If absent, the "
        "cluster's default StorageClass is used. If empty, no volume is provisioned: the claims are bound to "
        "PersistentVolumes without a class, which you create. It cannot be changed.",
    )
    claim_name: ObjectName | None = Field(
        None,
        description="Name of the existing PersistentVolumeClaim, in the namespace of the endpoint. Required with type "
        "ExistingClaim, and not allowed with other types.",
    )
    size_limit: Quantity | None = Field(
        None,
        description="Maximum size of the models on the node. A pod that exceeds it is evicted. Only allowed with type "
        "Ephemeral. If absent, there is no limit.",
    )
    retention_policy: RetentionPolicy = Field(
        default_factory=RetentionPolicy,
        description="Retention of the claims of removed replicas, if type is PersistentVolumeClaim, and of removed "
        "models. By default, both are kept. It can be changed at any time.",
    )


def _effective(root: str, field: str, default: str, *, quantity: bool = False) -> str:
    """Return a CEL expression for a field of `storage` in a spec (`self` or `oldSelf`), or for its default."""
    value = f"{root}.storage.{field}"
    present = f"has({root}.storage) && has({value})"
    side = f"({present} ? {f'string({value})' if quantity else value} : '{default}')"
    return f"quantity{side}" if quantity else side


def _same(field: str, default: str) -> str:
    return f"{_effective('self', field, default)} == {_effective('oldSelf', field, default)}"


def _compare(field: str, default: str, comparison: str) -> str:
    sides = (_effective(root, field, default, quantity=True) for root in ("self", "oldSelf"))
    return f"{next(sides)}.compareTo({next(sides)}) {comparison}"


#: Stands for an absent `storageClassName`. It is not the name of a class, and differs from an empty one.
_NO_CLASS = "-"
#: CEL rules on the spec, because a rule on `storage` is not evaluated if it is added or removed. Effective values are
#: compared: to write a default down is not a change.
STORAGE_CHANGES = (
    (
        " && ".join(
            (
                _same("type", StorageType.PERSISTENT_VOLUME_CLAIM),
                _same("storageClassName", _NO_CLASS),
                _same("claimName", ""),
                _compare("sizeLimit", "0", "== 0"),
            )
        ),
        "storage cannot be changed, except size and retentionPolicy; create another LLMEndpoint",
    ),
    (
        _compare("size", defaults.STORAGE_SIZE, ">= 0"),
        "storage.size may only grow; for less storage, create another LLMEndpoint",
    ),
)

_DELETES = (
    "has(self.storage) && has(self.storage.retentionPolicy) && has(self.storage.retentionPolicy.whenModelRemoved) && "
    f"self.storage.retentionPolicy.whenModelRemoved == '{RetentionAction.DELETE}'"
)
#: CEL rules on the spec: models of others would be deleted.
ONLY_OWN_MODELS = (
    (
        f"!({_DELETES}) || self.storage.type != '{StorageType.EXISTING_CLAIM}'",
        "storage.retentionPolicy.whenModelRemoved: Delete is not allowed with type ExistingClaim, because others can "
        "use the claim",
    ),
    (
        f"!({_DELETES}) || !has(self.metering) || "
        "((!has(self.metering.modelManagement) || self.metering.modelManagement != 'Allowed') && "
        "(!has(self.metering.mode) || self.metering.mode != 'Exporter'))",
        "storage.retentionPolicy.whenModelRemoved: Delete is not allowed with metering.modelManagement: Allowed or "
        "metering.mode: Exporter, because clients can add models",
    ),
)
