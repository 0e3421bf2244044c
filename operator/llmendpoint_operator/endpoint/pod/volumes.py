"""Volumes of an endpoint's pod, and the template of each replica's claim for its models."""

from __future__ import annotations

from llmendpoint_common.api import defaults
from llmendpoint_common.api.endpoint.spec import LLMEndpointSpec
from llmendpoint_common.api.endpoint.storage import Storage, StorageType
from llmendpoint_operator.endpoint import layout
from llmendpoint_operator.kube.owner import Manifest, Owner
from llmendpoint_operator.kube.pod_fields import manifest_of


def pod_volumes(owner: Owner, spec: LLMEndpointSpec) -> list[Manifest]:
    """Return the volumes of the pod, without the claim per replica, which `claim_templates` returns."""
    return [
        {"name": layout.CONFIG_VOLUME, "configMap": {"name": layout.config_map_name(owner)}},
        {"name": layout.HOME_VOLUME, "emptyDir": {}},
        {"name": layout.TMP_VOLUME, "emptyDir": {}},
        *_signals_volume(spec),
        *_ca_bundle_volume(spec),
        # Optional: if a Secret is missing, the pod still starts, and rejects the keys that do not exist yet.
        *(
            {"name": secret.volume, "secret": {"secretName": secret.name, "optional": True}}
            for secret in layout.key_secrets(spec)
        ),
        *_models_volume(spec.storage),
        *(manifest_of(volume) for volume in spec.pod.volumes),
    ]


def _signals_volume(spec: LLMEndpointSpec) -> list[Manifest]:
    """Return the volume of the file with which the sidecar requests a restart of Ollama. It is empty otherwise."""
    return [{"name": layout.SIGNALS_VOLUME, "emptyDir": {"sizeLimit": "1Mi"}}] if spec.metering.restarts_ollama else []


def _ca_bundle_volume(spec: LLMEndpointSpec) -> list[Manifest]:
    """Return the volume of the certificates that Ollama trusts. The pods wait until the ConfigMap and its key exist."""
    bundle = spec.ollama.ca_bundle_ref
    if bundle is None:
        return []
    items = [{"key": bundle.key, "path": layout.CA_BUNDLE_FILE}]
    return [{"name": layout.CA_BUNDLE_VOLUME, "configMap": {"name": bundle.name, "items": items}}]


def claim_templates(spec: LLMEndpointSpec) -> list[Manifest]:
    """Return the claim templates of the StatefulSet: one if each replica has its own claim, otherwise none."""
    storage = spec.storage
    if storage.type is not StorageType.PERSISTENT_VOLUME_CLAIM:
        return []
    claim: Manifest = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": storage.size or defaults.STORAGE_SIZE}},
    }
    # An empty name is not an absent one: it switches dynamic provisioning off.
    if storage.storage_class_name is not None:
        claim["storageClassName"] = storage.storage_class_name
    # The API server adds apiVersion and kind. If they were missing here, every apply would differ from the live object.
    return [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": layout.MODELS_VOLUME},
            "spec": claim,
        }
    ]


def _models_volume(storage: Storage) -> list[Manifest]:
    if storage.type is StorageType.EXISTING_CLAIM:
        return [{"name": layout.MODELS_VOLUME, "persistentVolumeClaim": {"claimName": storage.claim_name}}]
    if storage.type is StorageType.EPHEMERAL:
        limit = {"sizeLimit": storage.size_limit} if storage.size_limit else {}
        return [{"name": layout.MODELS_VOLUME, "emptyDir": limit}]
    return []
