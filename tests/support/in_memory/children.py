"""Objects as the API server returns them, for tests without an API server."""

from __future__ import annotations

import itertools
from typing import Any

from llmendpoint_operator.cluster.keys import Key
from llmendpoint_operator.kube.owner import Manifest, Owner
from llmendpoint_operator.reconcile.plan import stamped

OWNER = Owner("LLMEndpoint", "ns", "assistant", "uid-owner")
KEY = Key("LLMEndpoint", "ns", "assistant")

_versions = itertools.count(100)


def config_map(text: str = "a", name: str = "assistant", owner: Owner = OWNER) -> Manifest:
    """Return the manifest of a ConfigMap, as a builder returns it."""
    return {**owner.child("ConfigMap", name, "config"), "data": {"models.json": text}}


def stateful_set(replicas: int = 1, owner: Owner = OWNER) -> Manifest:
    """Return the manifest of a StatefulSet, as a builder returns it."""
    return {**owner.child("StatefulSet", owner.name, "endpoint"), "spec": {"replicas": replicas}}


def service(owner: Owner = OWNER) -> Manifest:
    """Return the manifest of the client Service, which no other child needs."""
    return {**owner.child("Service", owner.name, "client"), "spec": {}}


def live(manifest: Manifest, uid: str = "", *, stamp: bool = True, **fields: Any) -> Manifest:
    """Return the object of a manifest, with UID and version. If `stamp` is true, it has the hash of the manifest."""
    body = stamped(manifest) if stamp else manifest
    metadata = {
        **body["metadata"],
        "uid": uid or f"uid-{body['kind']}-{body['metadata']['name']}",
        "resourceVersion": str(next(_versions)),
        "generation": 1,
        "managedFields": [{"manager": "llmendpoint-operator"}],
    }
    return {**body, "metadata": metadata, **fields}


def newer(body: Manifest, **fields: Any) -> Manifest:
    """Return a later version of an object."""
    metadata = {**body["metadata"], "resourceVersion": str(next(_versions)), **fields.pop("metadata", {})}
    return {**body, "metadata": metadata, **fields}


def endpoint_body(uid: str = "uid-owner", generation: int = 1, **fields: Any) -> Manifest:
    """Return an LLMEndpoint as the watch shows it."""
    metadata = {
        "name": "assistant",
        "namespace": "ns",
        "uid": uid,
        "resourceVersion": str(next(_versions)),
        "generation": generation,
        "managedFields": [],
    }
    spec = {"models": [{"name": "tiny:latest"}]}
    return {
        "apiVersion": "llmendpoint.dev/v1alpha1",
        "kind": "LLMEndpoint",
        "metadata": metadata,
        "spec": spec,
        **fields,
    }
