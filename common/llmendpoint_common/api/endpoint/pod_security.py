"""Security context of the pods, `spec.pod.securityContext`: the part that cannot break the *restricted* standard.

What is fixed has no field: `runAsNonRoot: true`, the seccomp profile RuntimeDefault, and the security contexts of the
containers. SELinux users, roles and types, unsafe kernel parameters and Windows options have none either, because the
standard refuses them (https://kubernetes.io/docs/concepts/security/pod-security-standards/).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, WithJsonSchema

from llmendpoint_common.api.fields import ApiModel, ShortText, list_map

_MAX_ID = 2**31 - 1
_ID_DEFAULT = "If absent, it is 64000, or assigned by the platform on OpenShift."


class FsGroupChangePolicy(StrEnum):
    """When the group of the files on a volume is changed."""

    ON_ROOT_MISMATCH = "OnRootMismatch"
    ALWAYS = "Always"


class SafeSysctl(StrEnum):
    """The kernel parameters that the *restricted* standard allows, as of Kubernetes 1.29.

    Later versions also allow `net.ipv4.tcp_rmem` and `net.ipv4.tcp_wmem`, which older ones refuse.
    """

    SHM_RMID_FORCED = "kernel.shm_rmid_forced"
    IP_LOCAL_PORT_RANGE = "net.ipv4.ip_local_port_range"
    IP_LOCAL_RESERVED_PORTS = "net.ipv4.ip_local_reserved_ports"
    IP_UNPRIVILEGED_PORT_START = "net.ipv4.ip_unprivileged_port_start"
    PING_GROUP_RANGE = "net.ipv4.ping_group_range"
    TCP_FIN_TIMEOUT = "net.ipv4.tcp_fin_timeout"
    TCP_KEEPALIVE_INTERVAL = "net.ipv4.tcp_keepalive_intvl"
    TCP_KEEPALIVE_PROBES = "net.ipv4.tcp_keepalive_probes"
    TCP_KEEPALIVE_TIME = "net.ipv4.tcp_keepalive_time"
    TCP_SYNCOOKIES = "net.ipv4.tcp_syncookies"


class Sysctl(ApiModel):
    """A kernel parameter of the pod's network or shared memory."""

    name: SafeSysctl = Field(
        description="Name of the parameter, one that the restricted Pod Security Standard of Kubernetes 1.29 allows."
    )
    value: Annotated[ShortText, WithJsonSchema({"type": "string", "minLength": 1, "maxLength": 1024})] = Field(
        description="Value of the parameter, as a string."
    )


class SELinuxOptions(ApiModel):
    """SELinux label of the processes and volumes."""

    level: Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9.,:-]+$")] = Field(
        description="SELinux level, for example s0:c123,c456. Pods that share a volume need the same one."
    )


class PodSecurityContext(ApiModel):
    """User, groups, SELinux level and kernel parameters of the pods."""

    run_as_user: int | None = Field(
        None,
        ge=1,
        le=_MAX_ID,
        description=f"User ID of all processes. Root (0) is not allowed. {_ID_DEFAULT}",
        json_schema_extra={"format": "int64"},
    )
    run_as_group: int | None = Field(
        None,
        ge=0,
        le=_MAX_ID,
        description=f"Primary group ID of all processes. {_ID_DEFAULT}",
        json_schema_extra={"format": "int64"},
    )
    fs_group: int | None = Field(
        None,
        ge=0,
        le=_MAX_ID,
        description="Group ID of the files on volumes, if their type supports it; the processes are members of it. "
        f"{_ID_DEFAULT}",
        json_schema_extra={"format": "int64"},
    )
    fs_group_change_policy: FsGroupChangePolicy | None = Field(
        None,
        description="OnRootMismatch changes the group of the files on a volume only if that of its root folder is "
        "different. Always changes it at each start, which takes long with many files. If absent, it is "
        "OnRootMismatch.",
    )
    supplemental_groups: list[Annotated[int, Field(ge=0, le=_MAX_ID, json_schema_extra={"format": "int64"})]] = Field(
        default_factory=list,
        max_length=32,
        description="Additional group IDs of all processes, for example the group of files on a network file system. "
        "If empty, there are none.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    se_linux_options: SELinuxOptions | None = Field(
        None, description="SELinux label. If absent, the container runtime assigns a level of its own to each pod."
    )
    sysctls: list[Sysctl] = Field(
        default_factory=list,
        max_length=16,
        description="Kernel parameters of the pods. If empty, those of the node apply.",
        json_schema_extra=list_map("name"),
    )
