"""Which kinds of the table the cluster lacks.

The API server is asked when the operator starts, and again while a kind is missing: soon at first, because an operator
is often installed together with the CustomResourceDefinitions, and later every five minutes. No child of a missing kind
is written in the meantime.
"""

from __future__ import annotations

import asyncio
import logging
from http import HTTPStatus

from kubernetes.aio.client.exceptions import ApiException

from llmendpoint_operator.cluster.client import API_ERRORS, ApiServer
from llmendpoint_operator.cluster.faults import describe
from llmendpoint_operator.cluster.kinds import KINDS, TABLE, Kind, Role

log = logging.getLogger(__name__)

_FIRST_PAUSE_SECONDS = 2.0
_LAST_PAUSE_SECONDS = 300.0
#: Kinds that come from a CustomResourceDefinition. Every cluster has the others.
_CUSTOM = tuple(kind for kind in TABLE if kind.optional or kind.role is Role.RESOURCE)


class Discovery:
    """The kinds of the table that the cluster lacks."""

    def __init__(self, server: ApiServer) -> None:
        self._server = server
        self._missing: set[str] = set()
        self._lost = asyncio.Event()

    @property
    def missing(self) -> frozenset[str]:
        """The names of the kinds that the cluster lacks."""
        return frozenset(self._missing)

    def lost(self, kind: str) -> None:
        """Take from a refused request that the cluster does not know a kind."""
        if kind not in self._missing:
            log.warning("the cluster does not know the kind %s any more", kind)
            self._missing.add(kind)
            self._lost.set()

    async def look(self) -> set[str]:
        """Ask for all kinds that a cluster may lack, and return those that have appeared since the last time."""
        served = {kind.name for kind in _CUSTOM if await self._is_served(kind)}
        appeared = self._missing & served
        self._missing = {kind.name for kind in _CUSTOM} - served
        return appeared

    async def until_one_appears(self) -> None:
        """Return when a missing kind has appeared; wait for ever while none is missing."""
        pause = _FIRST_PAUSE_SECONDS
        while True:
            if not self._missing:
                self._lost.clear()
                await self._lost.wait()
                pause = _FIRST_PAUSE_SECONDS
            await asyncio.sleep(pause)
            pause = min(_LAST_PAUSE_SECONDS, 2 * pause)
            try:
                appeared = await self.look()
            except API_ERRORS as error:
                log.debug("kinds not looked up: %s", describe(error))
                continue
            if appeared:
                log.info("the cluster knows these kinds now: %s", ", ".join(sorted(appeared)))
                return

    async def _is_served(self, kind: Kind) -> bool:
        path = f"/apis/{kind.group}/{kind.version}"
        try:
            found = await self._server.request("GET", path)
        except ApiException as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return False
            raise
        return any(resource["name"] == kind.plural for resource in found["resources"])


def served(missing: frozenset[str]) -> tuple[Kind, ...]:
    """Return the watched kinds of the table that the cluster has."""
    return tuple(kind for kind in KINDS.values() if kind.watched and kind.name not in missing)
