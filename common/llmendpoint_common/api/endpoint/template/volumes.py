"""Volumes of `spec.podTemplate`: the types that the *restricted* standard allows, except Secrets and identities."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from llmendpoint_common.api.endpoint.template.part import NOT_A_SECRET, RESTRICTED, Object, Part, Path, reasons
from llmendpoint_common.api.endpoint.volumes import FOLDER_PATTERN, types_of
from llmendpoint_common.api.fields import NO_LIMIT_OF_ZERO
from llmendpoint_common.api.quantity import parse_quantity
from llmendpoint_common.contracts import pod


class Mount(Part):
    """A mount of a volume in a container."""

    name: str
    mount_path: Annotated[str, Field(pattern=FOLDER_PATTERN)]
    read_only: bool | None = None
    recursive_read_only: str | None = None
    sub_path: str | None = None
    sub_path_expr: str | None = None


class Device(Part):
    """A volume that a container uses as a block device."""

    name: str
    device_path: str


class ProjectedSource(Part):
    """A source of a projected volume."""

    refused = reasons(
        {
            "secret": NOT_A_SECRET,
            "serviceAccountToken": "not allowed: the pods have no token of their ServiceAccount",
            "podCertificate": "not allowed: the pods have no identity of their own",
        }
    )

    config_map: Object | None = None
    downward_api: Object | None = Field(None, alias="downwardAPI")
    cluster_trust_bundle: Object | None = None


class Projected(Part):
    """A volume of files from several sources."""

    default_mode: int | None = None
    sources: list[ProjectedSource]


class Csi(Part):
    """A volume that a CSI driver creates for each pod."""

    refused = reasons({"nodePublishSecretRef": NOT_A_SECRET})

    driver: str
    read_only: bool | None = None
    fs_type: str | None = None
    volume_attributes: dict[str, str] | None = None


class OciImage(Part):
    """The content of an OCI image or artifact."""

    reference: str
    pull_policy: str | None = None


class Claim(Part):
    """An existing PersistentVolumeClaim."""

    claim_name: str
    read_only: bool | None = None


class TemplateVolume(Part):
    """A volume of one of the types that the *restricted* standard allows, except Secrets."""

    refused = reasons(
        {
            "secret": NOT_A_SECRET,
            **dict.fromkeys(
                ("hostPath", "nfs", "iscsi", "fc", "cephfs", "rbd", "glusterfs", "gitRepo", "flexVolume", "local"),
                f"{RESTRICTED}; use a PersistentVolumeClaim",
            ),
        }
    )

    name: str
    config_map: Object | None = None
    csi: Csi | None = None
    downward_api: Object | None = Field(None, alias="downwardAPI")
    empty_dir: Object | None = None
    ephemeral: Object | None = None
    image: OciImage | None = None
    persistent_volume_claim: Claim | None = None
    projected: Projected | None = None

    @property
    def types(self) -> list[str]:
        """The fields for the source of the volume that are set. A valid volume has one."""
        return types_of(self)

    def conflicts(self) -> Iterator[tuple[Path, str]]:
        """Yield names of the operator, volumes without a source or with several, and limits without an effect."""
        if pod.is_own_volume(self.name):
            yield ("name",), f"{self.name} is a volume of the operator; choose another name"
        if len(self.types) != 1:
            yield (), "needs exactly one type, for example emptyDir or persistentVolumeClaim"
        if _is_zero((self.empty_dir or {}).get("sizeLimit")):
            yield ("emptyDir", "sizeLimit"), NO_LIMIT_OF_ZERO


def _is_zero(quantity: object) -> bool:
    """Return whether a value is a quantity of 0. The API server refuses other texts."""
    try:
        return parse_quantity(str(quantity)) == 0
    except ValueError:
        return False
