"""The rights that the requests of a user have needed, from the audit log of the API server."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple


class Right(NamedTuple):
    """A verb on a resource, or on a subresource after a slash."""

    group: str
    resource: str
    verb: str


class Requests(NamedTuple):
    """The rights that were needed by requests which RBAC allowed, and by those which it refused."""

    allowed: set[Right]
    refused: set[Right]


def requests_of(logs: Iterable[Path], user: str) -> Requests:
    """Return the rights that the requests of a user have needed so far."""
    found = Requests(set(), set())
    for line in (line for log in logs for line in log.read_text().splitlines()):
        event = json.loads(line)
        if event["user"]["username"] == user and "objectRef" in event:
            is_allowed = event["annotations"]["authorization.k8s.io/decision"] == "allow"
            (found.allowed if is_allowed else found.refused).update(_needed(event))
    return found


def granted(rules: list[dict[str, Any]]) -> set[Right]:
    """Return the rights that the rules of a role give."""
    return {
        Right(group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def audit_policy(*users: str) -> dict[str, Any]:
    """Return an audit policy that records each request of these users, without bodies."""
    rules = [{"level": "Metadata", "users": list(users)}, {"level": "None"}]
    # A watch is recorded when it starts, and again when it ends.
    return {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"], "rules": rules}


def role(name: str, namespace: str, rules: list[dict[str, Any]], user: str) -> list[dict[str, Any]]:
    """Return a Role with these rules, and a RoleBinding that gives it to a user."""
    group = "rbac.authorization.k8s.io"
    metadata = {"name": name, "namespace": namespace}
    subject = {"apiGroup": group, "kind": "User", "name": user}
    binding = {"roleRef": {"apiGroup": group, "kind": "Role", "name": name}, "subjects": [subject]}
    return [
        {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": metadata, "rules": rules},
        {"apiVersion": f"{group}/v1", "kind": "RoleBinding", "metadata": metadata, **binding},
    ]


def _needed(event: dict[str, Any]) -> Iterator[Right]:
    target = event["objectRef"]
    resource = "/".join(part for part in (target["resource"], target.get("subresource")) if part)
    yield Right(target.get("apiGroup", ""), resource, event["verb"])
    # A server-side apply that creates an object needs both verbs.
    if event["verb"] == "patch" and event.get("responseStatus", {}).get("code") == 201:
        yield Right(target.get("apiGroup", ""), resource, "create")
