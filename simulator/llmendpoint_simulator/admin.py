"""Routes of the simulator itself: `/simulator/ledger` and `/simulator/behaviour`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

import msgspec

from llmendpoint_simulator.behaviour import change, checked
from llmendpoint_simulator.serving.exchange import Exchange
from llmendpoint_simulator.serving.responses import JSON, Response
from llmendpoint_simulator.shapes.base import failure
from llmendpoint_simulator.world import World

_ENTRIES = 100


class Admin:
    """Shows and changes a simulator."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._initial = world.behaviour

    def routes(self) -> dict[tuple[str, str], Callable[[Exchange], Response]]:
        """Return the handlers by method and path."""
        return {
            ("GET", "/simulator/ledger"): self.show_ledger,
            ("DELETE", "/simulator/ledger"): self.clear_ledger,
            ("GET", "/simulator/behaviour"): self.show_behaviour,
            ("PUT", "/simulator/behaviour"): self.change_behaviour,
            ("DELETE", "/simulator/behaviour"): self.reset_behaviour,
        }

    def show_ledger(self, exchange: Exchange) -> Response:
        """Return accounts, the last entries (`?entries=N`), the counts of fault rules, and loads and evictions."""
        world = self._world
        text = parse_qs(exchange.request.query).get("entries", [str(_ENTRIES)])[0]
        if not text.isdecimal():
            return failure(400, f"entries is {text!r}, which is not a whole number of at least 0")
        entries = list(world.ledger.entries)
        return _json(
            {
                "accounts": world.ledger.accounts,
                "entries": entries[max(0, len(entries) - int(text)) :],
                "faults": world.injector.tallies,
                "loads": world.store.memory.loads,
                "evictions": world.store.memory.evictions,
                "longest_lateness": world.timers.longest_lateness,
            }
        )

    def clear_ledger(self, _: Exchange) -> Response:
        """Remove all accounts and entries, and begin random values and counts of faults again."""
        self._world.ledger.clear()
        self._world.timers.longest_lateness = 0.0
        self._world.restart()
        return Response(200)

    def show_behaviour(self, _: Exchange) -> Response:
        """Return the behaviour."""
        return _json(self._world.behaviour)

    def change_behaviour(self, exchange: Exchange) -> Response:
        """Replace fields of the behaviour."""
        try:
            self._world.behaviour = checked(change(self._world.behaviour, exchange.request.body))
        except (msgspec.MsgspecError, ValueError) as error:
            return failure(400, str(error))
        return _json(self._world.behaviour)

    def reset_behaviour(self, _: Exchange) -> Response:
        """Return to the behaviour that the simulator was started with."""
        self._world.behaviour = self._initial
        return _json(self._world.behaviour)


def _json(value: Any) -> Response:
    return Response(200, msgspec.json.encode(value), JSON)
