"""Reads and writes objects. Children and statuses are written by server-side apply with one field manager."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from kubernetes.aio.client.exceptions import ApiException

from llmendpoint_common.contracts.cluster import FIELD_MANAGER
from llmendpoint_common.process.errors import NotLeaderError
from llmendpoint_operator.cluster.client import APPLY, MERGE_PATCH, ApiServer
from llmendpoint_operator.cluster.kinds import KINDS
from llmendpoint_operator.kube.owner import Manifest

# The revision of an empty etcd. No object can have it, so an apply with this resourceVersion is refused if the object
# exists.
_NO_VERSION = "1"
_APPLY_QUERY = (("fieldManager", FIELD_MANAGER), ("force", "true"))
_DRY_RUN = ("dryRun", "All")
#: The name of an object that is only tried. It does not exist, so that the API server takes it for a new one.
_TRIED = "{}-trial"
#: The manager of fields that the operator has given up, until somebody else changes them.
_OTHER_QUERY = (("fieldManager", f"{FIELD_MANAGER}-handover"), ("force", "true"))


def everywhere(_: str) -> bool:
    """Allow writes to all namespaces."""
    return True


class Objects:
    """The objects of one cluster, as plain dicts. A failed request raises one of `API_ERRORS`.

    Each write first asks whether this process `may_write` to the namespace. If not, it raises NotLeaderError, also in
    the middle of a reconcile: the process may have been paused, and another one may serve the namespace since.
    """

    def __init__(self, server: ApiServer, may_write: Callable[[str], bool] = everywhere) -> None:
        self._server = server
        self._may_write = may_write

    async def get(self, kind: str, namespace: str, name: str) -> Manifest | None:
        """Return an object, or None if it does not exist."""
        try:
            return _whole(await self._server.request("GET", KINDS[kind].path(namespace, name)), kind)
        except ApiException as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return None
            raise

    async def list(self, kind: str, namespace: str, labels: dict[str, str]) -> list[Manifest]:
        """Return the objects that have all these labels."""
        selector = ",".join(f"{name}={value}" for name, value in labels.items())
        found = await self._server.request("GET", KINDS[kind].path(namespace), [("labelSelector", selector)])
        return [_whole(item, kind) for item in found["items"]]

    async def create(self, manifest: Manifest) -> Manifest:
        """Create an object by server-side apply, and return it. Raises ApiException with status 409 if it exists.

        Server-side apply does not have the precondition that an object does not exist. A resourceVersion in the body
        has the same effect: if the object exists with another version, the request is refused with status 409. If it
        does not exist, the field is ignored. In contrast to a POST, our fields are owned by an Apply entry from the
        start, so that a later apply can remove them.
        """
        metadata = {**manifest["metadata"], "resourceVersion": _NO_VERSION}
        return await self._apply(_path(manifest), {**manifest, "metadata": metadata})

    async def add(self, manifest: Manifest) -> Manifest:
        """Create an object that the operator never changes, and return it.

        Raises ApiException with status 409 if it exists. Unlike `create`, it does not need the right to patch.
        """
        metadata = manifest["metadata"]
        self._check(metadata["namespace"])
        path = KINDS[manifest["kind"]].path(metadata["namespace"])
        query = [("fieldManager", FIELD_MANAGER)]
        return _whole(await self._server.request("POST", path, query, manifest), manifest["kind"])

    async def try_create(self, manifest: Manifest) -> None:
        """Ask the API server whether it would create an object with another name, without creating it (dry run).

        Raises ApiException if it would not. A webhook that does not support dry runs is not asked.
        """
        metadata = {**manifest["metadata"], "name": _TRIED.format(manifest["metadata"]["name"])}
        tried = {**manifest, "metadata": metadata}
        try:
            await self._apply(_path(tried), tried, _DRY_RUN)
        except ApiException as error:
            if error.status != HTTPStatus.BAD_REQUEST or "dry run" not in str(error.body):
                raise

    async def apply(self, manifest: Manifest, uid: str) -> Manifest:
        """Apply a manifest to the object with this UID, and return the object.

        Raises ApiException if the object does not exist (status 409), or if another object has this name now (422).
        """
        return await self._apply(_path(manifest), {**manifest, "metadata": {**manifest["metadata"], "uid": uid}})

    async def apply_as_other(self, manifest: Manifest) -> Manifest:
        """Apply a manifest in the name of another field manager, so that the operator can leave its fields out later.

        Raises ApiException with status 409 if the object no longer has the resourceVersion in the manifest.
        """
        self._check(manifest["metadata"]["namespace"])
        path, kind = _path(manifest), manifest["kind"]
        return _whole(await self._server.request("PATCH", path, _OTHER_QUERY, manifest, APPLY), kind)

    async def apply_status(self, manifest: Manifest, status: dict[str, Any]) -> Manifest:
        """Write the status of one of our resources, and return the object.

        Raises ApiException with status 409 if the object has changed since `manifest` was read, or has been replaced.
        The resourceVersion is necessary: for the status of a custom resource, the API server ignores a wrong UID.
        """
        kind, metadata = manifest["kind"], manifest["metadata"]
        identity = {name: metadata[name] for name in ("name", "namespace", "uid", "resourceVersion")}
        body = {
            "apiVersion": manifest["apiVersion"],
            "kind": kind,
            "metadata": identity,
            "status": status,
        }
        return await self._apply(KINDS[kind].path(metadata["namespace"], metadata["name"], "status"), body)

    async def patch(self, kind: str, namespace: str, name: str, patch: Manifest) -> Manifest:
        """Send a merge patch and return the object. Unlike an apply, it can remove fields that others have set."""
        path, query = KINDS[kind].path(namespace, name), [("fieldManager", FIELD_MANAGER)]
        self._check(namespace)
        return _whole(await self._server.request("PATCH", path, query, patch, MERGE_PATCH), kind)

    async def record(self, event: Manifest) -> None:
        """Create an Event. Events are never read or updated."""
        path = KINDS[event["kind"]].path(event["metadata"]["namespace"])
        self._check(event["metadata"]["namespace"])
        await self._server.request("POST", path, [("fieldManager", FIELD_MANAGER)], event)

    async def delete(self, kind: str, namespace: str, name: str, uid: str, *, orphan: bool = False) -> None:
        """Delete an object. Kubernetes then deletes the objects that it owns, in the background.

        If `orphan` is true, it keeps them, and removes their owner references before the object disappears.
        Does nothing if the object does not exist, or if an object of this name has another UID.
        """
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Orphan" if orphan else "Background",
            "preconditions": {"uid": uid},
        }
        self._check(namespace)
        try:
            await self._server.request("DELETE", KINDS[kind].path(namespace, name), body=options)
        except ApiException as error:
            if error.status not in (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT):
                raise

    async def _apply(self, path: str, body: Manifest, *query: tuple[str, str]) -> Manifest:
        self._check(body["metadata"]["namespace"])
        return _whole(await self._server.request("PATCH", path, (*_APPLY_QUERY, *query), body, APPLY), body["kind"])

    def _check(self, namespace: str) -> None:
        if not self._may_write(namespace):
            raise NotLeaderError(f"another operator process may serve namespace {namespace}")


def _path(manifest: Manifest) -> str:
    return KINDS[manifest["kind"]].path(manifest["metadata"]["namespace"], manifest["metadata"]["name"])


def _whole(item: Manifest, kind: str) -> Manifest:
    """Return an object with apiVersion and kind, which are missing in the items of a list."""
    return {"apiVersion": KINDS[kind].api_version, "kind": kind, **item}
