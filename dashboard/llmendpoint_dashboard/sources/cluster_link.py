"""Connects the source of the cluster to the other parts, and keeps trying until there is a cluster to connect to."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Any

from llmendpoint_common.diagnosis.rules import cluster_findings
from llmendpoint_common.process.errors import NoClusterError
from llmendpoint_dashboard.settings import Cluster, SidecarAddress
from llmendpoint_dashboard.sources.about import AboutWriter
from llmendpoint_dashboard.sources.sidecars import Sidecars
from llmendpoint_dashboard.state import Hub

log = logging.getLogger(__name__)

_RETRY_SECONDS = 10.0
_MESSAGE_SECONDS = 1.0


class ClusterLink:
    """Watches a cluster. A sentence about the connection is in the section `about`."""

    def __init__(self, cluster: Cluster, hub: Hub, about: AboutWriter, sidecars: Sidecars) -> None:
        self._cluster = cluster
        self._hub = hub
        self._about = about
        self._sidecars = sidecars
        self._source: Any = None

    @property
    def is_ready(self) -> bool:
        """Whether each kind was listed once."""
        return self._source is not None and bool(self._source.is_listed)

    def summary(self, key: str) -> Any:
        """Return `status.summary` of a LoadTest, or None."""
        return None if self._source is None else self._source.summary(key)

    async def run(self) -> None:
        """Connect and watch until the task is cancelled."""
        # The package kubernetes takes more than a second to load, and a machine without a cluster does not need it.
        client, source = await asyncio.to_thread(_modules)
        while True:
            try:
                found = await client.load_configuration(self._cluster.kubeconfig, self._cluster.context)
                break
            except NoClusterError as error:
                log.error("%s", error)
                self._about.update(cluster=f"{str(error)[:1].upper()}{str(error)[1:]}.")
                await asyncio.sleep(_RETRY_SECONDS)
        server = client.ApiServer(found)
        self._source = source.ClusterSource(
            server, self._cluster.namespaces, self._hub, self._configure, cluster_findings
        )
        telling = asyncio.create_task(self._tell())
        try:
            await self._source.run()
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)
            await server.close()

    async def _tell(self) -> None:
        while True:
            self._about.update(cluster=self._source.message)
            await asyncio.sleep(_MESSAGE_SECONDS)

    def _configure(self, addresses: Iterable[Any]) -> None:
        self._sidecars.configure(SidecarAddress(address.name, address.url) for address in addresses)


def _modules() -> tuple[Any, Any]:
    from llmendpoint_dashboard.cluster import client  # noqa: PLC0415
    from llmendpoint_dashboard.sources import cluster  # noqa: PLC0415

    return client, cluster
