"""A cluster in memory, for tests of controllers. If the behavior of the API server matters, use a real one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from kubernetes.aio.client.exceptions import ApiException

from llmendpoint_operator.kube.owner import Manifest
from support.in_memory.children import live, newer


def refusal(code: int, text: str) -> ApiException:
    """Return the exception of an error response."""
    return ApiException(http_resp=SimpleNamespace(status=code, reason="", data=text.encode(), headers={}))


def forbidden() -> ApiException:
    words = r"you may not: User \"operator\" cannot patch resource \"services\""
    return refusal(403, f'{{"kind":"Status","message":"{words}","details":{{"name":"assistant"}}}}')


def plain_not_found() -> ApiException:
    return refusal(404, "404 page not found")


class FakeDiscovery:
    """The kinds that the cluster does not have, without look-ups."""

    def __init__(self) -> None:
        self.missing: set[str] = set()

    def lost(self, kind: str) -> None:
        self.missing.add(kind)


class FakeObjects:
    """Objects by kind and name. `refuse` holds an error for each kind whose writes fail."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.refuse: dict[str, Exception] = {}
        #: Errors for only the next write of a kind.
        self.refuse_next: dict[str, Exception] = {}
        #: Errors for deletions, by kind.
        self.refuse_delete: dict[str, Exception] = {}
        #: The error of every patch.
        self.refuse_patch: BaseException | None = None
        #: The manifests of created objects, by "Kind/name".
        self.created: dict[str, Manifest] = {}
        #: The manifests that were applied in the name of another field manager.
        self.handed_over: list[Manifest] = []
        self.statuses: list[dict[str, Any]] = []
        #: The versions of the objects whose status was written.
        self.written_upon: list[str] = []
        self.events: list[Manifest] = []
        self._objects: dict[tuple[str, str], Manifest] = {}

    def put(self, body: Manifest) -> None:
        self._objects[body["kind"], body["metadata"]["name"]] = body

    def remove(self, kind: str, name: str) -> None:
        self._objects.pop((kind, name), None)

    def get_now(self, kind: str, name: str) -> Manifest:
        return self._objects[kind, name]

    async def get(self, kind: str, namespace: str, name: str) -> Manifest | None:
        self.calls.append(f"get {kind}/{name}")
        return self._objects.get((kind, name))

    async def list(self, kind: str, namespace: str, labels: dict[str, str]) -> list[Manifest]:
        self.calls.append(f"list {kind}")
        return [body for (found, _), body in self._objects.items() if found == kind]

    async def create(self, manifest: Manifest) -> Manifest:
        kind, name = self._note("create", manifest)
        if (kind, name) in self._objects:
            raise refusal(409, '{"kind":"Status","message":"modified","details":{"name":"x"}}')
        self.created[f"{kind}/{name}"] = manifest
        return self._store(manifest)

    async def add(self, manifest: Manifest) -> Manifest:
        return await self.create(manifest)

    async def apply(self, manifest: Manifest, uid: str) -> Manifest:
        kind, name = self._note("apply", manifest)
        existing = self._objects.get((kind, name))
        if existing is None or existing["metadata"]["uid"] != uid:
            raise refusal(409, '{"kind":"Status","message":"uid mismatch","details":{"name":"x"}}')
        return self._store(manifest)

    async def apply_as_other(self, manifest: Manifest) -> Manifest:
        kind, name = self._note("hand over", manifest)
        self.handed_over.append(manifest)
        return self._objects[kind, name]

    async def patch(self, kind: str, namespace: str, name: str, patch: Manifest) -> Manifest:
        self._note("patch", {"kind": kind, "metadata": {"name": name}})
        if self.refuse_patch is not None:
            raise self.refuse_patch
        before = self._objects[kind, name]
        metadata = dict(before["metadata"])
        if "spec" in patch:
            before = {**before, "spec": {**before.get("spec", {}), **patch["spec"]}}
            metadata["generation"] += 1
        if patch["metadata"].get("resourceVersion", metadata["resourceVersion"]) != metadata["resourceVersion"]:
            raise refusal(409, '{"kind":"Status","message":"modified","details":{"name":"x"}}')
        for field, value in patch["metadata"].items():
            merged = {**metadata.get(field, {}), **value} if isinstance(value, dict) else value
            metadata[field] = {k: v for k, v in merged.items() if v is not None} if isinstance(merged, dict) else merged
        metadata = {
            field: value for field, value in metadata.items() if value is not None and field != "resourceVersion"
        }
        body = newer({**before, "metadata": metadata})
        self.put(body)
        return body

    async def apply_status(self, manifest: Manifest, status: dict[str, Any]) -> Manifest:
        self._note("status", manifest)
        self.statuses.append(status)
        self.written_upon.append(manifest["metadata"]["resourceVersion"])
        return newer(manifest, status=status)

    async def try_create(self, manifest: Manifest) -> None:
        self._note("try", manifest)

    async def delete(self, kind: str, namespace: str, name: str, uid: str, *, orphan: bool = False) -> None:
        self.calls.append(f"{'orphan' if orphan else 'delete'} {kind}/{name}")
        if kind in self.refuse_delete:
            raise self.refuse_delete[kind]
        self._objects.pop((kind, name), None)

    async def record(self, event: Manifest) -> None:
        self.events.append(event)

    def _note(self, verb: str, manifest: Manifest) -> tuple[str, str]:
        kind, name = manifest["kind"], manifest["metadata"]["name"]
        self.calls.append(f"{verb} {kind}/{name}")
        if kind in self.refuse_next:
            raise self.refuse_next.pop(kind)
        if kind in self.refuse:
            raise self.refuse[kind]
        return kind, name

    def _store(self, manifest: Manifest) -> Manifest:
        body = live(manifest, stamp=False)
        self.put(body)
        return body
