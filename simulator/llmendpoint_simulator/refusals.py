"""Injected faults instead of an answer, on any route."""

from __future__ import annotations

import asyncio

from llmendpoint_simulator.faults import Fault
from llmendpoint_simulator.injection import Injected
from llmendpoint_simulator.requests import RequestError
from llmendpoint_simulator.serving.exchange import Exchange

QUEUE_FULL = "server busy, please try again.  maximum pending requests exceeded"


async def refuse(exchange: Exchange, injected: Injected) -> None:
    """Inject a fault. Returns if the request is answered after all, or if the exchange has ended.

    Raises RequestError for an error response.
    """
    rule, reason = injected.rule, injected.fault.value
    match injected.fault:
        case Fault.STATUS_500:
            raise RequestError(500, rule.message, reason=reason)
        case Fault.STATUS:
            raise RequestError(rule.status, rule.message, reason=reason)
        case Fault.QUEUE_FULL:
            raise RequestError(503, QUEUE_FULL, reason=reason)
        case Fault.RESET:
            exchange.reset()
        case Fault.STALL:
            await asyncio.sleep(rule.seconds)
        case Fault.HANG:
            await asyncio.get_running_loop().create_future()
