"""Events about the changes of an endpoint's status."""

from __future__ import annotations

from typing import Any

from llmendpoint_operator.endpoint.observe import Observation
from llmendpoint_operator.endpoint.progress import is_failure, new_reasons
from llmendpoint_operator.endpoint.status import conditions
from support.endpoints import endpoint_spec
from support.observations import HUNG, READY, observed, view


def rows(seen: Observation) -> dict[str, Any]:
    """Return a status that has only conditions."""
    found = conditions(endpoint_spec(replicas=2), seen)
    words = {True: "True", False: "False", None: "Unknown"}
    return {
        "conditions": [
            {"type": one.type, "status": words[one.status], "reason": one.reason, "message": one.message}
            for one in found
        ]
    }


def test_a_hung_ollama_is_one_warning_also_if_another_replica_is_ready() -> None:
    good = rows(observed(view(READY, ready=True), view(READY, ready=True)))
    for seen in (observed(HUNG, view(READY, ready=True)), observed(HUNG, HUNG)):
        (event,) = [one for one in new_reasons(good, rows(seen)) if one["reason"] == "OllamaHung"]
        assert is_failure(event)
        assert "no byte" in event["message"]
        assert not new_reasons(rows(seen), rows(seen))
