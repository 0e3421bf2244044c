"""The benchmark's own client: creates, edits and deletes, watches the results, and plays the StatefulSet controller.

All times are those at which an event of a watch arrives, so that measuring sends no requests.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self, TypeAlias

import aiohttp
import msgspec

from support.api_server.control_plane import OPERATOR_NAMESPACE

NAMESPACE = "bench"
RESOURCE = "LLMEndpoint"
_PATHS = {
    RESOURCE: f"/apis/llmendpoint.dev/v1alpha1/namespaces/{NAMESPACE}/llmendpoints",
    "StatefulSet": f"/apis/apps/v1/namespaces/{NAMESPACE}/statefulsets",
    "Service": f"/api/v1/namespaces/{NAMESPACE}/services",
    "ConfigMap": f"/api/v1/namespaces/{NAMESPACE}/configmaps",
    "ServiceAccount": f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts",
    "NetworkPolicy": f"/apis/networking.k8s.io/v1/namespaces/{NAMESPACE}/networkpolicies",
}
_LEASES = f"/apis/coordination.k8s.io/v1/namespaces/{OPERATOR_NAMESPACE}/leases"
_WATCHED = (RESOURCE, "StatefulSet", "Service")
_MERGE_PATCH = "application/merge-patch+json"
#: Requests of the benchmark that run at the same time.
_PARALLEL = 8


# Only these fields of an event are decoded.
class _Meta(msgspec.Struct):
    name: str
    resourceVersion: str  # noqa: N815 - names of the API
    generation: int = 0


class _Port(msgspec.Struct):
    port: int


class _Spec(msgspec.Struct):
    replicas: int | None = None
    ports: list[_Port] = msgspec.field(default_factory=list)


class _Status(msgspec.Struct):
    observedGeneration: int = 0  # noqa: N815
    replicas: int = 0


class Object(msgspec.Struct):
    """The fields of an object that the benchmark reads."""

    metadata: _Meta
    spec: _Spec = msgspec.field(default_factory=_Spec)
    status: _Status = msgspec.field(default_factory=_Status)

    @property
    def is_observed(self) -> bool:
        """Whether the controller of the object has processed its present spec."""
        return self.status.observedGeneration >= self.metadata.generation


class _Event(msgspec.Struct):
    type: str
    object: Object


#: Tests an event; it gets the object, or None if the object was deleted.
Check: TypeAlias = Callable[[Object | None], bool]


class Cluster:
    """A client and watches, open while the context is entered."""

    def __init__(self, kubeconfig: Path) -> None:
        config = json.loads(kubeconfig.read_text())
        cluster = config["clusters"][0]["cluster"]
        self._base = cluster["server"]
        self._ssl = ssl.create_default_context(cafile=cluster["certificate-authority"])
        self._headers = {"Authorization": f"Bearer {config['users'][0]['user']['token']}"}
        self._waiting: dict[tuple[str, str], list[tuple[Check, asyncio.Future[float]]]] = defaultdict(list)
        self._limit = asyncio.Semaphore(_PARALLEL)
        self._tasks: set[asyncio.Task[None]] = set()
        self._controlled: dict[str, int] = {}
        #: The requests of the benchmark itself, with the same names as in `counters.counted`.
        self.sent: Counter[str] = Counter()

    async def __aenter__(self) -> Self:
        """Open the client, create the namespace, and start the watches."""
        connector = aiohttp.TCPConnector(limit=0, ssl=self._ssl)
        self._session = aiohttp.ClientSession(connector=connector, headers=self._headers, read_bufsize=2**22)
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
        await self._send("POST", "/api/v1/namespaces", namespace)
        for kind in _WATCHED:
            found = await self._send("GET", _PATHS[kind])
            self._spawn(self._watch(kind, found["metadata"]["resourceVersion"]))
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop the watches and close the client."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._session.close()

    async def create(self, name: str) -> None:
        """Create an endpoint."""
        spec = {"models": [{"name": "llama3.2:3b"}], "replicas": 1}
        body = {"apiVersion": "llmendpoint.dev/v1alpha1", "kind": RESOURCE, "metadata": {"name": name}, "spec": spec}
        async with self._limit:
            await self._send("POST", _PATHS[RESOURCE], body)
            self.sent["POST llmendpoints"] += 1

    async def edit(self, name: str, spec: dict[str, Any]) -> int:
        """Change fields of an endpoint's spec, and return its new generation."""
        body = await self._send("PATCH", f"{_PATHS[RESOURCE]}/{name}", {"spec": spec}, _MERGE_PATCH)
        self.sent["PATCH llmendpoints"] += 1
        return int(body["metadata"]["generation"])

    async def delete(self, kind: str, name: str) -> None:
        """Delete an object. Objects that it owns are left, because no garbage collector runs."""
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        await self._send("DELETE", f"{_PATHS[kind]}/{name}", options)
        self.sent[f"DELETE {_PATHS[kind].rpartition('/')[2]}"] += 1

    async def count(self, kind: str) -> int:
        """Return the number of objects of a kind."""
        self.sent[f"LIST {_PATHS[kind].rpartition('/')[2]}"] += 1
        return len((await self._send("GET", _PATHS[kind]))["items"])

    async def holders(self) -> set[str]:
        """Return the processes that hold a Lease of an operator."""
        found = await self._send("GET", _LEASES)
        return {item["spec"]["holderIdentity"] for item in found["items"] if item["spec"].get("holderIdentity")}

    async def metrics(self) -> str:
        """Return the metrics of the API server."""
        async with self._session.get(f"{self._base}/metrics") as response:
            return await response.text()

    def seen(self, kind: str, name: str, check: Check) -> asyncio.Future[float]:
        """Return a future: the time (monotonic) at which an event about this object arrives that satisfies `check`."""
        future = asyncio.get_running_loop().create_future()
        self._waiting[kind, name].append((check, future))
        return future

    async def _watch(self, kind: str, version: str) -> None:
        decoder = msgspec.json.Decoder(_Event)
        while True:
            query = f"?watch=true&resourceVersion={version}&timeoutSeconds=3600"
            timeout = aiohttp.ClientTimeout(total=None)
            async with self._session.get(self._base + _PATHS[kind] + query, timeout=timeout) as response:
                async for line in response.content:
                    event = decoder.decode(line)
                    version = event.object.metadata.resourceVersion
                    self._happened(kind, event.object.metadata.name, None if event.type == "DELETED" else event.object)

    def _happened(self, kind: str, name: str, item: Object | None) -> None:
        now = time.monotonic()
        waiting = self._waiting.pop((kind, name), [])
        left = [entry for entry in waiting if not _settled(entry, item, now)]
        if left:
            self._waiting[kind, name] = left
        if kind == "StatefulSet":
            self._control(name, item)

    def _control(self, name: str, item: Object | None) -> None:
        """Report all replicas of a StatefulSet as ready, as soon as its spec changes."""
        if item is None or item.is_observed:
            self._controlled.pop(name, None)
        elif self._controlled.get(name) != item.metadata.generation:
            self._controlled[name] = item.metadata.generation
            self._spawn(self._report(name, item.metadata.generation, item.spec.replicas or 0))

    async def _report(self, name: str, generation: int, replicas: int) -> None:
        fields = ("replicas", "readyReplicas", "availableReplicas", "updatedReplicas", "currentReplicas")
        status = {"observedGeneration": generation, **dict.fromkeys(fields, replicas)}
        async with self._limit:
            try:
                await self._send("PATCH", f"{_PATHS['StatefulSet']}/{name}/status", {"status": status}, _MERGE_PATCH)
                self.sent["PATCH statefulsets/status"] += 1
            except aiohttp.ClientResponseError as error:
                # The benchmark deletes StatefulSets.
                if error.status != 404:
                    raise

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            raise SystemExit(f"the benchmark's own client failed: {task.exception()!r}")

    async def _send(self, method: str, path: str, body: Any = None, content_type: str = "application/json") -> Any:
        data = None if body is None else msgspec.json.encode(body)
        headers = {"Content-Type": content_type}
        async with self._session.request(method, self._base + path, data=data, headers=headers) as response:
            text = await response.read()
            if response.status >= 400:
                raise aiohttp.ClientResponseError(
                    response.request_info, (), status=response.status, message=text.decode()[:500]
                )
            return msgspec.json.decode(text)


def _settled(entry: tuple[Check, asyncio.Future[float]], item: Object | None, now: float) -> bool:
    """Return whether nobody waits for a future any longer, after it has got its result if the check is satisfied."""
    check, future = entry
    if not future.done() and check(item):
        future.set_result(now)
    return future.done()
