"""Measure the CPU time of reconciles without an API server.

    python bench/operator/warm.py [--endpoints 500] [--profile]

The requests are answered in the same process, by objects as an API server would return them. The encoding of requests
and the decoding of responses are included, connections are not. Prints the CPU time per reconcile in µs, and the memory
per endpoint.
"""

from __future__ import annotations

import argparse
import asyncio
import copy
import cProfile
import gc
import itertools
import pstats
import sys
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / name) for name in ("common", "operator")]

from llmendpoint_operator.cluster.discovery import Discovery  # noqa: E402
from llmendpoint_operator.cluster.inventory import Inventory  # noqa: E402
from llmendpoint_operator.cluster.keys import Key  # noqa: E402
from llmendpoint_operator.cluster.objects import Objects  # noqa: E402
from llmendpoint_operator.cluster.pod_status import PodStatuses  # noqa: E402
from llmendpoint_operator.endpoint.controller import EndpointController  # noqa: E402
from llmendpoint_operator.reconcile.controller import Cluster  # noqa: E402
from llmendpoint_operator.settings import ChildSettings, Images  # noqa: E402

Manifest = dict[str, Any]


class Server:
    """Answers the requests of the operator from a dict of objects."""

    def __init__(self) -> None:
        self.objects: dict[str, Manifest] = {}
        self.requests = 0
        self._versions = itertools.count(100)

    async def request(self, method: str, path: str, query: Any = (), body: Any = None, content_type: str = "") -> Any:
        """Create or change an object, and return it. Reads are not needed."""
        self.requests += 1
        # What is sent and received is encoded and decoded once, as over a connection.
        body = msgspec.json.decode(msgspec.json.encode(body))
        if method == "POST":
            return body
        known = self.objects.get(path.removesuffix("/status"))
        changed = {**(known or {}), **body}
        old = known["metadata"] if known else {"uid": f"uid-{next(self._versions)}", "generation": 1}
        changed["metadata"] = {**old, **body["metadata"], "resourceVersion": str(next(self._versions))}
        changed["metadata"].setdefault("managedFields", [{"manager": "x", "fieldsV1": {"f:a": {}}}])
        changed["metadata"]["uid"] = old["uid"]
        self.objects[path.removesuffix("/status")] = changed
        return msgspec.json.decode(msgspec.json.encode(changed))


def endpoint(index: int) -> Manifest:
    """Return an endpoint as the API server shows it."""
    metadata = {"name": f"endpoint-{index}", "namespace": "bench", "uid": f"owner-{index}", "generation": 1,
                "resourceVersion": str(10 + index), "creationTimestamp": "2026-01-01T00:00:00Z",
                "managedFields": [{"manager": "kubectl", "fieldsV1": {"f:spec": {"f:models": {}, "f:replicas": {}}}}]}  # fmt: skip
    spec = {"models": [{"name": "llama3.2:3b", "load": "Preload"}], "replicas": 1}
    return {"apiVersion": "llmendpoint.dev/v1alpha1", "kind": "LLMEndpoint", "metadata": metadata, "spec": spec}


class Bench:
    """The controller, its inventory, and the server."""

    def __init__(self, number: int) -> None:
        self.server: Any = Server()
        self.inventory = Inventory()
        self.inventory.complete = True
        self.keys = [Key("LLMEndpoint", "bench", f"endpoint-{index}") for index in range(number)]
        cluster = Cluster(Objects(self.server), self.inventory, Discovery(), PodStatuses(), lambda: datetime.now(UTC))
        images = Images("ghcr.io/llmendpoint/sidecar:1", "ghcr.io/llmendpoint/loadjob:1", "docker.io/ollama/ollama:1")
        self.controller = EndpointController(cluster, ChildSettings(images))

    def show_endpoints(self) -> None:
        """Show all endpoints to the inventory, as the first listing does."""
        for index, key in enumerate(self.keys):
            body = endpoint(index)
            self.server.objects[f"/apis/llmendpoint.dev/v1alpha1/namespaces/bench/llmendpoints/{key.name}"] = body
            self.inventory.shows("LLMEndpoint", copy.deepcopy(body))

    def show_all(self) -> None:
        """Show all objects to a new inventory, as after a restart."""
        for body in self.server.objects.values():
            self.inventory.shows(body["kind"], msgspec.json.decode(msgspec.json.encode(body)))

    def edit(self) -> None:
        """Change the port of each endpoint."""
        for path, body in list(self.server.objects.items()):
            if body["kind"] == "LLMEndpoint":
                metadata = {**body["metadata"], "generation": body["metadata"]["generation"] + 1}
                metadata["resourceVersion"] = str(int(metadata["resourceVersion"]) + 1_000_000)
                edited = {**body, "metadata": metadata, "spec": {**body["spec"], "service": {"port": 8080}}}
                self.server.objects[path] = edited
                self.inventory.shows("LLMEndpoint", copy.deepcopy(edited))

    async def reconcile(self) -> None:
        """Reconcile all endpoints once."""
        for key in self.keys:
            await self.controller.reconcile(key)


def timed(title: str, number: int, work: Callable[[], Any], *, profile: bool) -> None:
    """Run a function or coroutine function, and print its CPU time per endpoint."""
    profiler = cProfile.Profile() if profile else None
    gc.collect()
    begin = time.process_time()
    if profiler:
        profiler.enable()
    result = work()
    if isinstance(result, Awaitable):
        asyncio.get_event_loop().run_until_complete(result)
    if profiler:
        profiler.disable()
    print(f"{title:44} {1e6 * (time.process_time() - begin) / number:8.0f} µs")
    if profiler:
        pstats.Stats(profiler).sort_stats("tottime").print_stats(25)


def run(number: int, *, profile: bool) -> None:
    """Measure all steps."""
    asyncio.set_event_loop(asyncio.new_event_loop())
    bench = Bench(number)
    timed("show new endpoints", number, bench.show_endpoints, profile=False)
    timed("first reconcile of an endpoint", number, bench.reconcile, profile=profile)
    print(f"requests per first reconcile: {bench.server.requests / number:g}")
    timed("reconcile without a change", number, bench.reconcile, profile=profile)
    bench.edit()
    timed("reconcile after an edit", number, bench.reconcile, profile=False)
    again = Bench(number)
    again.server.objects = bench.server.objects
    sent = again.server.requests
    timed("show everything after a restart", number, again.show_all, profile=profile)
    timed("first reconcile after a restart", number, again.reconcile, profile=profile)
    print(f"requests after the restart: {again.server.requests - sent}")


def memory(number: int) -> None:
    """Print the memory of the inventory after a restart."""
    asyncio.set_event_loop(asyncio.new_event_loop())
    first = Bench(number)
    first.show_endpoints()
    asyncio.get_event_loop().run_until_complete(first.reconcile())
    second = Bench(number)
    second.server.objects = first.server.objects
    gc.collect()
    tracemalloc.start()
    second.show_all()
    gc.collect()
    listed = tracemalloc.get_traced_memory()[0]
    asyncio.get_event_loop().run_until_complete(second.reconcile())
    gc.collect()
    settled, _ = tracemalloc.get_traced_memory()
    snapshot = tracemalloc.take_snapshot()
    tracemalloc.stop()
    print(f"memory per endpoint: {listed / number / 1000:.1f} kB listed, {settled / number / 1000:.1f} kB settled")
    for line in snapshot.statistics("lineno")[:12]:
        print(f"  {line.size / number / 1000:6.2f} kB  {line.traceback[0]}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--endpoints", type=int, default=500)
    parser.add_argument("--profile", action="store_true", help="print a profile of the reconciles")
    options = parser.parse_args()
    run(options.endpoints, profile=options.profile)
    memory(options.endpoints)
    return 0


if __name__ == "__main__":
    sys.exit(main())
