"""Mounts of volumes with GGUF files in the sidecar, which reads the files and uploads them to Ollama."""

from __future__ import annotations

from llmendpoint_common.api.endpoint.spec import LLMEndpointSpec
from llmendpoint_common.api.endpoint.volumes import VolumeMount
from llmendpoint_operator.endpoint import layout
from llmendpoint_operator.kube.owner import Manifest


def gguf_mounts(spec: LLMEndpointSpec) -> list[Manifest]:
    """Return the mounts of Ollama that have a GGUF file of a model, read-only and below `layout.GGUF_ROOT`.

    Other mounts are left out, because the sidecar does not need their content.
    """
    paths = [model.source.gguf.path for model in spec.models if model.source is not None and model.source.gguf]
    found = {mount.mount_path: mount for path in paths if (mount := _mount_of(spec, path)) is not None}
    return [_read_only(mount) for mount in found.values()]


def _mount_of(spec: LLMEndpointSpec, path: str) -> VolumeMount | None:
    """Return the deepest mount that has a path, because it hides those above it."""
    covering = [mount for mount in spec.pod.ollama_volume_mounts if f"{path}/".startswith(f"{mount.mount_path}/")]
    return max(covering, key=lambda mount: len(mount.mount_path), default=None)


def _read_only(mount: VolumeMount) -> Manifest:
    sub_path = {"subPath": mount.sub_path} if mount.sub_path else {}
    return {"name": mount.name, "mountPath": f"{layout.GGUF_ROOT}{mount.mount_path}", "readOnly": True, **sub_path}
