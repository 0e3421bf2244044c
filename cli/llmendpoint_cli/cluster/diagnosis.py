"""Gathers the facts about a cluster: the kinds that it has, the operator, and the conditions of endpoints.

It only reads, with the rights of the user. Objects that the user may not read are left out, and their kinds are named.
"""

from __future__ import annotations

import asyncio
import time
from argparse import Namespace
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from http import HTTPStatus
from typing import Any

from kubernetes.aio.client.exceptions import ApiException

from llmendpoint_cli.cluster.access import Manifest, server_of
from llmendpoint_cli.cluster.names import ObjectName
from llmendpoint_common.contracts.cluster import (
    GROUP,
    LEASE_NAME,
    LLMENDPOINT,
    OPERATOR_LABEL,
    VERSION,
)
from llmendpoint_common.diagnosis.facts import ClusterFacts, ConditionFacts, EndpointFacts, OperatorFacts
from llmendpoint_common.process.errors import ClusterError
from llmendpoint_operator.cluster.client import API_ERRORS, ApiServer
from llmendpoint_operator.cluster.faults import describe
from llmendpoint_operator.crd.definitions import custom_resource_definitions

_GROUP = f"/apis/{GROUP}/{VERSION}"
_DEFINITION = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{}"
_LEASES = "/apis/coordination.k8s.io/v1/leases"
_DEPLOYMENTS = "/apis/apps/v1/deployments"
#: Operators renew their Lease every 5 s. The clock of this machine may differ from theirs, so a Lease that looks old is
#: read again to see whether it changes.
_FRESH_SECONDS = 20.0
_RENEWED_WITHIN_SECONDS = 8.0
_POLL_SECONDS = 1.0


async def cluster_facts(endpoint: ObjectName | None, options: Namespace) -> ClusterFacts:
    """Return the facts about the cluster of the kubeconfig, with one endpoint or all of them."""
    now = time.time()
    if options.kubeconfig is not None and not options.kubeconfig.exists():
        return ClusterFacts(now, error=f"the kubeconfig {options.kubeconfig} does not exist")
    try:
        async with server_of(options.kubeconfig, options.context) as (server, namespace, url):
            name = endpoint and (endpoint if endpoint.namespace else ObjectName(namespace, endpoint.name))
            try:
                return await _Reader(server, namespace).facts(name, url, now)
            except API_ERRORS as error:
                return ClusterFacts(now, url, error=describe(error))
    except ClusterError as error:
        return ClusterFacts(now, error=str(error))


class _Reader:
    """Reads objects of a cluster, and remembers what the user may not read."""

    def __init__(self, server: ApiServer, namespace: str) -> None:
        self._server = server
        self._namespace = namespace
        self._unread: list[str] = []

    async def facts(self, name: ObjectName | None, url: str, now: float) -> ClusterFacts:
        """Return all facts. Raises one of API_ERRORS if the API server does not answer or accepts no credentials."""
        absent, outdated = await self._definitions()
        if LLMENDPOINT in absent:
            return ClusterFacts(now, url, absent=absent)
        operator = await self._operator()
        endpoints = await self._endpoints(name)
        return ClusterFacts(
            now,
            url,
            absent=absent,
            outdated=outdated,
            operator=operator,
            endpoints=tuple(map(_endpoint, endpoints)),
            named=str(name or ""),
            unread=tuple(dict.fromkeys(self._unread)),
        )

    async def _definitions(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the kinds that the cluster lacks, and the fields that its definitions lack."""
        served = await self._get(_GROUP)
        kinds = {row["kind"] for row in (served or {}).get("resources") or []}
        wanted = custom_resource_definitions()
        absent = tuple(one["spec"]["names"]["kind"] for one in wanted if one["spec"]["names"]["kind"] not in kinds)
        outdated: list[str] = []
        for ours in wanted:
            kind = ours["spec"]["names"]["kind"]
            theirs = None if kind in absent else await self._definition(ours["metadata"]["name"])
            if theirs is not None:
                outdated += [f"{kind}.{path}" for path in _missing(_schema(ours), _schema(theirs))]
        return absent, tuple(outdated)

    async def _definition(self, name: str) -> Manifest | None:
        return await self._allowed(_DEFINITION.format(name), "CustomResourceDefinitions")

    async def _operator(self) -> OperatorFacts | None:
        leases = await self._leases()
        if leases is None:
            return None
        renewed = [time for lease in leases if (time := _renewed(lease)) is not None]
        if await self._is_serving(leases):
            return OperatorFacts(is_serving=True, last_seen=max(renewed, default=None))
        deployment = _operators_deployment(await self._items(_DEPLOYMENTS, "Deployments"))
        return _stopped(deployment, max(renewed, default=None))

    async def _leases(self) -> list[Manifest] | None:
        answer = await self._allowed(_LEASES, "Leases", [("fieldSelector", f"metadata.name={LEASE_NAME}")])
        return None if answer is None else list(answer["items"])

    async def _is_serving(self, leases: Sequence[Manifest]) -> bool:
        """Return whether a Lease is held and is being renewed."""
        held = [lease for lease in leases if (lease.get("spec") or {}).get("holderIdentity")]
        if any(abs(time.time() - (_renewed(lease) or 0.0)) < _FRESH_SECONDS for lease in held):
            return True
        if not held:
            return False
        before = _versions(held)
        deadline = time.monotonic() + _RENEWED_WITHIN_SECONDS
        while time.monotonic() < deadline:
            await asyncio.sleep(_POLL_SECONDS)
            if _versions(await self._leases() or []) - before:
                return True
        return False

    async def _endpoints(self, name: ObjectName | None) -> list[Manifest]:
        if name is not None:
            found = await self._get(f"{_GROUP}/namespaces/{name.namespace}/llmendpoints/{name.name}")
            return [] if found is None else [found]
        try:
            answer = await self._server.request("GET", f"{_GROUP}/llmendpoints")
        except ApiException as error:
            if error.status != HTTPStatus.FORBIDDEN:
                raise
            self._unread.append(f"you may not read LLMEndpoints outside {self._namespace}")
            answer = await self._server.request("GET", f"{_GROUP}/namespaces/{self._namespace}/llmendpoints")
        return list(answer["items"])

    async def _items(self, path: str, what: str) -> list[Manifest]:
        answer = await self._allowed(path, what, [("labelSelector", "app.kubernetes.io/part-of=llmendpoint")])
        return list((answer or {}).get("items") or [])

    async def _allowed(self, path: str, what: str, query: Iterable[tuple[str, str]] = ()) -> Manifest | None:
        """Return an object or a list, or None if it does not exist, or if the user may not read it."""
        try:
            return await self._get(path, query)
        except ApiException as error:
            if error.status != HTTPStatus.FORBIDDEN:
                raise
            self._unread.append(f"you may not read {what}")
            return None

    async def _get(self, path: str, query: Iterable[tuple[str, str]] = ()) -> Manifest | None:
        try:
            answer: Manifest = await self._server.request("GET", path, query)
        except ApiException as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            return None
        return answer


def _schema(definition: Manifest) -> dict[str, Any]:
    versions = definition["spec"]["versions"]
    found: dict[str, Any] = next((one for one in versions if one["name"] == VERSION), {})
    schema: dict[str, Any] = ((found.get("schema") or {}).get("openAPIV3Schema") or {}).get("properties") or {}
    return {"properties": {"spec": schema.get("spec") or {}}}


def _missing(ours: dict[str, Any], theirs: dict[str, Any], path: str = "") -> Iterator[str]:
    """Yield the paths of the fields that a schema lacks."""
    their_fields = theirs.get("properties") or {}
    for name, field in (ours.get("properties") or {}).items():
        here = f"{path}.{name}" if path else name
        if name not in their_fields:
            yield here
        else:
            yield from _missing(field, their_fields[name], here)
    if "items" in ours and isinstance(theirs.get("items"), dict):
        yield from _missing(ours["items"], theirs["items"], f"{path}[]")


def _versions(leases: Iterable[Manifest]) -> set[tuple[str, str]]:
    return {(lease["metadata"]["namespace"], lease["metadata"]["resourceVersion"]) for lease in leases}


def _renewed(lease: Manifest) -> float | None:
    text = (lease.get("spec") or {}).get("renewTime")
    return datetime.fromisoformat(text).timestamp() if text else None


def _operators_deployment(deployments: Iterable[Manifest]) -> Manifest | None:
    """Return the Deployment whose pods have the label of the operator."""
    for deployment in deployments:
        labels = deployment["spec"]["template"]["metadata"].get("labels") or {}
        if OPERATOR_LABEL in labels:
            return deployment
    return None


def _stopped(deployment: Manifest | None, last_seen: float | None) -> OperatorFacts:
    if deployment is None:
        return OperatorFacts(is_serving=False, last_seen=last_seen)
    conditions = (deployment.get("status") or {}).get("conditions") or []
    problems = [row.get("message", "") for row in conditions if row["type"] == "Available" and row["status"] != "True"]
    return OperatorFacts(
        is_serving=False,
        last_seen=last_seen,
        namespace=deployment["metadata"]["namespace"],
        deployment=deployment["metadata"]["name"],
        replicas=deployment["spec"].get("replicas", 1),
        problem=(problems[0] if problems else "").rstrip("."),
    )


def _endpoint(body: Manifest) -> EndpointFacts:
    rows = (body.get("status") or {}).get("conditions") or []
    conditions = tuple(
        ConditionFacts(row["type"], row["status"], row["reason"], row.get("message", "")) for row in rows
    )
    return EndpointFacts(body["metadata"]["namespace"], body["metadata"]["name"], conditions)
