"""Modelfiles in ConfigMaps of users, on a real API server: read with the rights that the operator has."""

from __future__ import annotations

import json
from typing import Any

from llmendpoint_common.contracts.cluster import LLMENDPOINT
from support.api_server.manifests import endpoint
from support.waiting import wait_until

REFERENCE = {"configMapKeyRef": {"name": "prompts", "key": "brief"}}
MODELS = [{"name": "tiny:latest"}, {"name": "brief:1", "modelfile": REFERENCE}]


def prompts(text: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "prompts"}, "data": {"brief": text}}


def declared(api: Any) -> dict[str, str]:
    """Return the Modelfiles in the configuration of the sidecar, by the name of the model."""
    found = api.get("ConfigMap", "assistant")
    models = json.loads(found["data"]["models.json"])["models"] if found else []
    return {model["name"]: model.get("modelfile") for model in models}


def test_a_modelfile_is_awaited_read_and_read_again(api: Any, operator: Any) -> None:
    api.apply(endpoint("assistant", models=MODELS))
    wait_until(lambda: api.conditions(LLMENDPOINT, "assistant").get("Degraded") == ("True", "ReferenceNotFound"))
    assert api.get("StatefulSet", "assistant") is None
    api.apply(prompts("FROM tiny:latest\nSYSTEM One."))
    wait_until(lambda: declared(api).get("brief:1") == "FROM tiny:latest\nSYSTEM One.", 30)
    wait_until(lambda: api.get("StatefulSet", "assistant"))
    api.apply(prompts("FROM tiny:latest\nADAPTER ./a"))
    # A change of the spec makes the operator read it immediately.
    api.apply(endpoint("assistant", models=MODELS, replicas=2))
    wait_until(lambda: api.conditions(LLMENDPOINT, "assistant").get("Stalled") == ("True", "InvalidSpec"), 30)
    assert declared(api)["brief:1"] == "FROM tiny:latest\nSYSTEM One."
