"""Reading and writing objects: all writes are server-side apply with one field manager."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import httpx2 as httpx
from lightkube import ApiError, AsyncClient
from lightkube.generic_resource import GenericNamespacedResource, create_namespaced_resource

from llmendpoint_common.contracts.cluster import FIELD_MANAGER
from llmendpoint_operator.cluster.kinds import TABLE
from llmendpoint_operator.kube.owner import Manifest, Owner, is_controlled_by

NOT_FOUND = 404

_RESOURCES: dict[str, type[GenericNamespacedResource]] = {
    kind.name: create_namespaced_resource(kind.group, kind.version, kind.name, kind.plural) for kind in TABLE
}


def resource(kind: str) -> Any:
    """Return the class by which lightkube addresses a kind."""
    return _RESOURCES[kind]


#: The API server's "no": a Status, or plain text where it does not even know the kind.
REFUSALS = (ApiError, httpx.HTTPStatusError)


class Objects:
    """The objects of one cluster, as plain dicts."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        #: Resource versions that our own applies returned, by UID: events that show them are echoes.
        self._echoes: dict[str, str] = {}

    async def get(self, kind: str, namespace: str, name: str) -> Manifest | None:
        """Return an object, None where it is not there."""
        try:
            return _plain(await self._client.get(resource(kind), name, namespace=namespace), kind)
        except REFUSALS as error:
            if _code(error) == NOT_FOUND:
                return None
            raise

    async def list(self, kind: str, namespace: str, labels: dict[str, str]) -> list[Manifest]:
        """Return the objects with all these labels; none where the cluster does not know the kind."""
        found = []
        try:
            async for item in self._client.list(resource(kind), namespace=namespace, labels=dict(labels)):
                found.append(_plain(item, kind))  # noqa: PERF401 - mypy cannot see through the generic
        except REFUSALS as error:
            if _code(error) != NOT_FOUND:
                raise
        return found

    async def apply(self, manifest: Manifest) -> Manifest:
        """Apply one manifest; ApiError 404 where the cluster does not know its kind."""
        kind = manifest["kind"]
        applied = _plain(
            await self._client.apply(resource(kind)(manifest), field_manager=FIELD_MANAGER, force=True), kind
        )
        self._echoes[applied["metadata"]["uid"]] = applied["metadata"]["resourceVersion"]
        return applied

    async def apply_children(self, owner: Owner, manifests: Iterable[Manifest]) -> tuple[str, ...]:
        """Apply an owner's children and return `Kind/name` of those that a stranger's object stands in the way of."""
        conflicts = []
        for manifest in manifests:
            kind, name = manifest["kind"], manifest["metadata"]["name"]
            existing = await self.get(kind, owner.namespace, name)
            if existing is not None and not is_controlled_by(existing, owner):
                conflicts.append(f"{kind}/{name}")
            else:
                await self.apply(manifest)
        return tuple(conflicts)

    async def prune(self, owner: Owner, kinds: Iterable[str], labels: dict[str, str], keep: Iterable[Manifest]) -> None:
        """Delete this owner's children of these kinds that are no longer desired."""
        kept = {(manifest["kind"], manifest["metadata"]["name"]) for manifest in keep}
        for kind in kinds:
            for item in await self.list(kind, owner.namespace, labels):
                if (kind, item["metadata"]["name"]) not in kept and is_controlled_by(item, owner):
                    await self.delete(kind, owner.namespace, item["metadata"]["name"])

    async def delete(self, kind: str, namespace: str, name: str) -> None:
        """Delete an object and what it owns; it may be gone already."""
        try:
            await self._client.delete(resource(kind), name, namespace=namespace)
        except REFUSALS as error:
            if _code(error) != NOT_FOUND:
                raise

    async def apply_status(self, manifest: Manifest, status: dict[str, Any]) -> None:
        """Write the status of one of our resources, if it differs from what is there."""
        if manifest.get("status") == status:
            return
        kind, metadata = manifest["kind"], manifest["metadata"]
        body = {
            "apiVersion": manifest["apiVersion"],
            "kind": kind,
            "metadata": {"name": metadata["name"], "namespace": metadata["namespace"]},
            "status": status,
        }
        applied = await self._client.apply(resource(kind).Status(body), field_manager=FIELD_MANAGER, force=True)
        self._echoes[metadata["uid"]] = _plain(applied, kind)["metadata"]["resourceVersion"]

    async def create(self, manifest: Manifest) -> None:
        """Create an object that is never updated, such as an Event."""
        await self._client.create(resource(manifest["kind"])(manifest))

    def is_echo(self, manifest: Manifest) -> bool:
        """Tell whether an object is as our own last write left it."""
        metadata = manifest["metadata"]
        return bool(self._echoes.get(metadata.get("uid", "")) == metadata.get("resourceVersion"))

    def forget(self, uid: str) -> None:
        """An object is gone."""
        self._echoes.pop(uid, None)


def is_unknown_kind(error: Exception) -> bool:
    """Tell whether the cluster does not know the kind."""
    return _code(error) == NOT_FOUND


#: What a cluster that is away or busy raises: worth another try.
TRANSIENT = (ApiError, httpx.HTTPError, OSError, asyncio.TimeoutError)


def _code(error: Exception) -> int:
    if isinstance(error, ApiError):
        return int(error.status.code or 0)
    return error.response.status_code if isinstance(error, httpx.HTTPStatusError) else 0


def _plain(item: Any, kind: str) -> Manifest:
    """Return the dict of a generic resource, with the kind that lists leave out."""
    manifest: Manifest = item.to_dict() if hasattr(item, "to_dict") else dict(item)
    manifest.setdefault("kind", kind)
    manifest.setdefault("apiVersion", resource(kind)._api_info.resource.api_version)  # noqa: SLF001
    return manifest
