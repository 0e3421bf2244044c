"""Additional volumes of the pods, and their mounts in the Ollama container.

The types are those that the *restricted* Pod Security Standard allows, except those with an identity or with Secrets:
Secrets reach a pod only through fields that name them as such, which the operator's policy can restrict.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field, WithJsonSchema

from llmendpoint_common.api.fields import (
    DNS_LABEL,
    NO_LIMIT_OF_ZERO,
    ApiModel,
    DataKey,
    ObjectName,
    Quantity,
    ShortText,
    above_zero,
    cel_list,
    list_map,
    rules,
)
from llmendpoint_common.contracts import pod

_VOLUME_NAME = f"^{DNS_LABEL}$"
#: Without empty, `.` and `..` components and without `:`, which Kubernetes refuses. So paths can be compared as text.
_COMPONENT = r"([^/:.][^/:]*|\.[^/:.][^/:]*|\.\.[^/:]+)"
FOLDER_PATTERN = rf"^(/{_COMPONENT})+$"
FILE_PATTERN = rf"^{_COMPONENT}(/{_COMPONENT})*$"


_Reference = Annotated[
    ShortText, WithJsonSchema({"type": "string", "minLength": 1, "maxLength": 1024, "pattern": r"^\S+$"})
]


class ConfigMapItem(ApiModel):
    """A key of a ConfigMap that becomes a file of the volume."""

    key: DataKey = Field(description="Key in the ConfigMap.")
    path: Annotated[str, Field(max_length=1024, pattern=FILE_PATTERN)] = Field(
        description="Path of the file in the volume, without a leading slash."
    )
    mode: int | None = Field(
        None, ge=0, le=0o777, description="Mode of the file, in decimal. If absent, it is defaultMode of the volume."
    )


class ConfigMapVolume(ApiModel):
    """A ConfigMap whose keys are the files of the volume."""

    name: ObjectName = Field(description="Name of the ConfigMap, in the namespace of the endpoint.")
    items: list[ConfigMapItem] = Field(
        default_factory=list,
        max_length=64,
        description="Keys that become files, with their paths. If empty, each key becomes a file of the same name.",
    )
    default_mode: int | None = Field(
        None, ge=0, le=0o777, description="Mode of the files, in decimal. If absent, it is 420 (0644 in octal)."
    )
    optional: bool = Field(
        False,
        description="If true, the pods also start without the ConfigMap, or without a key of it. Defaults to false.",
    )


class PersistentVolumeClaimVolume(ApiModel):
    """An existing PersistentVolumeClaim. All replicas use the same one."""

    claim_name: ObjectName = Field(
        description="Name of the PersistentVolumeClaim, in the namespace of the endpoint. With several replicas, its "
        "access mode must be ReadWriteMany or ReadOnlyMany."
    )
    read_only: bool = Field(False, description="If true, every mount of the volume is read-only. Defaults to false.")


class EmptyDirMedium(StrEnum):
    """Storage of an empty volume, if it is not the disk of the node."""

    MEMORY = "Memory"


class EmptyDirVolume(ApiModel):
    """An empty folder that is deleted with the pod."""

    model_config = ConfigDict(json_schema_extra=rules((above_zero("sizeLimit"), f"sizeLimit {NO_LIMIT_OF_ZERO}")))

    medium: EmptyDirMedium | None = Field(
        None,
        description="Memory keeps the files in memory, which counts against the memory limit of the container that "
        "writes them. If absent, they are on the disk of the node.",
    )
    size_limit: Quantity | None = Field(
        None, description="Maximum size of the files. A pod that exceeds it is evicted. If absent, there is no limit."
    )


class ImagePullPolicy(StrEnum):
    """When the content of an image is pulled."""

    ALWAYS = "Always"
    IF_NOT_PRESENT = "IfNotPresent"
    NEVER = "Never"


class ImageVolume(ApiModel):
    """The content of an OCI image or artifact, for example a GGUF file. The mounts are read-only."""

    reference: _Reference = Field(
        description="Reference of the image or artifact, for example registry.example/models/x@sha256:…. It is pulled "
        "with the credentials of the pod."
    )
    pull_policy: ImagePullPolicy | None = Field(
        None,
        description="Always, IfNotPresent or Never. If absent, Kubernetes uses Always for the tag latest, otherwise "
        "IfNotPresent.",
    )


class CsiVolume(ApiModel):
    """A volume that a CSI driver creates for each pod, for example one that mounts models from a registry."""

    driver: ObjectName = Field(
        description="Name of the CSI driver. It must support ephemeral inline volumes, which the CSIDriver object says."
    )
    read_only: bool = Field(False, description="If true, every mount of the volume is read-only. Defaults to false.")
    fs_type: Annotated[str, Field(max_length=64, pattern=r"^[a-z0-9]*$")] | None = Field(
        None, description="File system of the volume, for example ext4. If absent, the driver decides."
    )
    volume_attributes: Annotated[dict[str, ShortText], Field(max_length=32)] = Field(
        default_factory=dict,
        description="Attributes for the driver, as its documentation describes them. A Secret cannot be passed to it.",
    )


#: The fields of a volume for its source. Exactly one is set.
SOURCES = ("persistentVolumeClaim", "configMap", "emptyDir", "image", "csi")
_ONE_SOURCE = (
    f"[{', '.join(f'has(self.{source})' for source in SOURCES)}].filter(given, given).size() == 1",
    f"exactly one of {', '.join(SOURCES[:-1])} and {SOURCES[-1]} must be set",
)


def free_volume_name(path: str) -> tuple[str, str]:
    """Return a CEL rule that is false if the text at a path is the name of a volume of the operator."""
    prefixes = " && ".join(f"!{path}.startsWith('{prefix}')" for prefix in pod.VOLUME_PREFIXES)
    return (
        f"!({path} in {cel_list(pod.VOLUMES)}) && {prefixes}",
        f"{', '.join(pod.VOLUMES)} and names that begin with {' or '.join(pod.VOLUME_PREFIXES)} are volumes of the "
        "operator; choose another name",
    )


class Volume(ApiModel):
    """A volume of the pods. Its name is used in ollamaVolumeMounts."""

    model_config = ConfigDict(json_schema_extra=rules(_ONE_SOURCE, free_volume_name("self.name")))

    name: Annotated[str, Field(min_length=1, max_length=63, pattern=_VOLUME_NAME)] = Field(
        description="Name of the volume, which mounts refer to: at most 63 lowercase letters, digits and dashes."
    )
    persistent_volume_claim: PersistentVolumeClaimVolume | None = Field(
        None, description="An existing PersistentVolumeClaim, which all replicas use."
    )
    config_map: ConfigMapVolume | None = Field(None, description="A ConfigMap whose keys are the files of the volume.")
    empty_dir: EmptyDirVolume | None = Field(None, description="An empty folder that is deleted with the pod.")
    image: ImageVolume | None = Field(
        None,
        description="The content of an OCI image or artifact, for example a GGUF file. Kubernetes supports it by "
        "default since 1.35.",
    )
    csi: CsiVolume | None = Field(None, description="A volume that a CSI driver creates for each pod.")

    @property
    def types(self) -> list[str]:
        """The fields for the source of the volume that are set. A valid volume has one."""
        return types_of(self)


def types_of(volume: ApiModel) -> list[str]:
    """Return the names of the fields of a volume that are set, except its name."""
    aliases = {name: str(field.alias) for name, field in type(volume).model_fields.items() if name != "name"}
    return [alias for name, alias in aliases.items() if getattr(volume, name) is not None]


class VolumeMount(ApiModel):
    """A folder of the Ollama container at which a volume is mounted."""

    name: Annotated[str, Field(min_length=1, max_length=63, pattern=_VOLUME_NAME)] = Field(
        description="Name of a volume in the field volumes."
    )
    mount_path: Annotated[str, Field(max_length=512, pattern=FOLDER_PATTERN)] = Field(
        description="Absolute path of the folder, without a trailing slash. Folders of the operator, such as /models, "
        "those of programs, such as /usr and /etc, and folders above or below them are not allowed."
    )
    sub_path: Annotated[str, Field(max_length=512, pattern=FILE_PATTERN)] | None = Field(
        None,
        description="Path of a folder or file in the volume, without a leading slash, that is mounted instead of the "
        "whole volume. If absent, the whole volume is mounted.",
    )
    read_only: bool = Field(False, description="If true, Ollama cannot write to the volume. Defaults to false.")


OWN_FOLDERS = (
    f"self.all(m, {cel_list(pod.OLLAMA_FOLDERS)}.all(f, m.mountPath != f && !m.mountPath.startsWith(f + '/') && "
    "!f.startsWith(m.mountPath + '/')))",
    f"{', '.join(pod.OLLAMA_FOLDERS)}, and folders above or below them, cannot be mountPath",
)
VOLUMES_OF_MOUNTS = (
    "!has(self.ollamaVolumeMounts) || self.ollamaVolumeMounts.all(m, has(self.volumes) && "
    "self.volumes.exists(v, v.name == m.name))",
    "each name in ollamaVolumeMounts must be the name of a volume in volumes",
)
MOUNT_KEYS = list_map("mountPath")
VOLUME_KEYS = list_map("name")
