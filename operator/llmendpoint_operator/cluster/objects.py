"""Reads and writes of objects. All writes of children and of status are server-side apply with one field manager."""

from __future__ import annotations

from typing import Any

from kubernetes.aio.client.exceptions import ApiException

from llmendpoint_common.contracts.cluster import FIELD_MANAGER
from llmendpoint_operator.cluster.client import APPLY, ApiServer
from llmendpoint_operator.cluster.kinds import KINDS
from llmendpoint_operator.kube.owner import Manifest

NOT_FOUND = 404
CONFLICT = 409

# The revision of an empty etcd: no object can have it, so an apply that names it is refused if the object exists.
_NO_VERSION = "1"
_APPLY_QUERY = (("fieldManager", FIELD_MANAGER), ("force", "true"))


class Objects:
    """The objects of one cluster, as plain dicts. A refusal raises one of `API_ERRORS`."""

    def __init__(self, server: ApiServer) -> None:
        self._server = server

    async def get(self, kind: str, namespace: str, name: str) -> Manifest | None:
        """Return an object, or None if it does not exist."""
        try:
            return _whole(await self._server.request("GET", KINDS[kind].path(namespace, name)), kind)
        except ApiException as error:
            if error.status == NOT_FOUND:
                return None
            raise

    async def list(self, kind: str, namespace: str, labels: dict[str, str]) -> list[Manifest]:
        """Return the objects that have all these labels."""
        selector = ",".join(f"{name}={value}" for name, value in labels.items())
        found = await self._server.request("GET", KINDS[kind].path(namespace), [("labelSelector", selector)])
        return [_whole(item, kind) for item in found["items"]]

    async def create(self, manifest: Manifest) -> Manifest:
        """Apply a manifest that must not exist yet, and return the object. `ApiException` 409 if it exists.

        Server-side apply has no precondition "does not exist", but a resourceVersion in the body is one: an object of
        another version is refused with 409, and if there is no object, the field is ignored. Unlike a POST, this makes
        our fields owned by an Apply entry from the start, so that a later apply can remove them.
        """
        metadata = {**manifest["metadata"], "resourceVersion": _NO_VERSION}
        return await self.apply({**manifest, "metadata": metadata})

    async def apply(self, manifest: Manifest) -> Manifest:
        """Apply a manifest and return the object."""
        path = KINDS[manifest["kind"]].path(manifest["metadata"]["namespace"], manifest["metadata"]["name"])
        return await self._apply(path, manifest)

    async def apply_status(self, manifest: Manifest, status: dict[str, Any]) -> Manifest:
        """Write the status of one of our resources and return the object. 409 if another object has its name by now."""
        kind, metadata = manifest["kind"], manifest["metadata"]
        body = {
            "apiVersion": manifest["apiVersion"],
            "kind": kind,
            "metadata": {"name": metadata["name"], "namespace": metadata["namespace"], "uid": metadata["uid"]},
            "status": status,
        }
        return await self._apply(KINDS[kind].path(metadata["namespace"], metadata["name"], "status"), body)

    async def record(self, event: Manifest) -> None:
        """Create an object that is never read or updated: an Event."""
        path = KINDS[event["kind"]].path(event["metadata"]["namespace"])
        await self._server.request("POST", path, [("fieldManager", FIELD_MANAGER)], event)

    async def delete(self, kind: str, namespace: str, name: str, uid: str) -> None:
        """Delete an object and, in the background, what it owns. An object of another UID is left alone."""
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Background",
            "preconditions": {"uid": uid},
        }
        try:
            await self._server.request("DELETE", KINDS[kind].path(namespace, name), body=options)
        except ApiException as error:
            if error.status not in (NOT_FOUND, CONFLICT):
                raise

    async def _apply(self, path: str, body: Manifest) -> Manifest:
        return _whole(await self._server.request("PATCH", path, _APPLY_QUERY, body, APPLY), body["kind"])


def _whole(item: Manifest, kind: str) -> Manifest:
    """Return an object with apiVersion and kind, which the items of a list lack."""
    return {"apiVersion": KINDS[kind].api_version, "kind": kind, **item}
