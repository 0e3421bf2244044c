"""The operator's pods on a cluster: who serves, and ends that they cannot prepare for."""

from __future__ import annotations

import contextlib
import json
import threading
import time
import urllib.error
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from support.on_cluster.cluster import NAMESPACE, Namespace, fetch
from support.on_cluster.nodes import Node
from support.waiting import wait_until

LEASE = "llmendpoint-operator"


class OperatorPods:
    """The operator's pods of a release, and its Lease."""

    def __init__(self, namespace: str = NAMESPACE) -> None:
        self.namespace = Namespace(namespace)

    def all(self) -> list[dict[str, Any]]:
        """Return the pods that are not being deleted."""
        found = self.namespace.run("get", "pods", "-l", "app.kubernetes.io/component=operator", "-o", "json")
        return [pod for pod in json.loads(found)["items"] if "deletionTimestamp" not in pod["metadata"]]

    def only(self) -> dict[str, Any]:
        """Return the pod, if there is one replica."""
        (pod,) = self.all()
        return pod

    def leader(self) -> str:
        """Return the name of the pod that holds the Lease."""
        found = self.namespace.run("get", "lease", LEASE, "-o", "jsonpath={.spec.holderIdentity}", check=False)
        return found.rpartition("/")[2]

    def is_serving(self, pod: str) -> bool:
        """Return whether a pod holds the Lease, and serves."""
        path = "jsonpath={.metadata.annotations.llmendpoint\\.dev/serving}"
        return self.leader() == pod and self.namespace.run("get", "lease", LEASE, "-o", path) == "true"

    def delete_now(self) -> None:
        """Delete all pods without grace."""
        names = [pod["metadata"]["name"] for pod in self.all()]
        self.namespace.run("delete", "pod", *names, "--force", "--grace-period=0", "--wait=false", check=False)

    def kill(self, pod: dict[str, Any]) -> None:
        """Send SIGKILL to the operator's process in a pod."""
        node = Node(pod)
        for process in node.processes("llmendpoint_operator"):
            node.signal("KILL", process)

    def wait_until_serving(self, seconds: float = 60) -> dict[str, Any]:
        """Wait until a pod that exists serves and is ready, and return it."""

        def serving() -> dict[str, Any] | None:
            pods = {pod["metadata"]["name"]: pod for pod in self.all()}
            leader = pods.get(self.leader())
            return leader if leader and is_ready(leader) and self.is_serving(leader["metadata"]["name"]) else None

        return dict(wait_until(serving, seconds, every=0.2))


def is_ready(pod: dict[str, Any]) -> bool:
    rows = pod["status"].get("conditions") or []
    return any(row["type"] == "Ready" and row["status"] == "True" for row in rows)


def restarts(pod: dict[str, Any]) -> int:
    """Return how often containers of a pod were restarted."""
    status = pod["status"]
    rows = (status.get("containerStatuses") or []) + (status.get("initContainerStatuses") or [])
    return sum(row["restartCount"] for row in rows)


@dataclass
class Client:
    """A client that sends one request after the other, and notes what failed."""

    answered: int = 0
    failures: list[str] = field(default_factory=list)
    _stopped: threading.Event = field(default_factory=threading.Event)

    def _run(self, url: str, model: str) -> None:
        question = {"model": model, "prompt": "hello", "options": {"num_predict": 16}}
        while not self._stopped.is_set():
            try:
                last = json.loads(fetch(f"{url}/api/generate", question).splitlines()[-1])
            except (OSError, urllib.error.URLError, ValueError) as error:
                self.failures.append(f"{time.strftime('%T')} {error!r}")
                self._stopped.wait(0.5)
            else:
                self.answered += 1
                if not last.get("eval_count") and not last.get("response"):
                    self.failures.append(json.dumps(last))

    @classmethod
    @contextlib.contextmanager
    def running(cls, url: str, model: str) -> Iterator[Client]:
        """Yield a client that is running."""
        client = cls()
        thread = threading.Thread(target=client._run, args=(url, model))
        thread.start()
        try:
            yield client
        finally:
            client._stopped.set()
            thread.join(90)
