"""The restricted Pod Security Standard, and our own rules for pods."""

from __future__ import annotations

from typing import Any


def assert_restricted(spec: dict[str, Any]) -> None:
    """Check a pod spec: no privileges, no token, no service links, a memory request and no CPU limit."""
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False
    for container in spec["containers"] + spec.get("initContainers", []):
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["requests"]["memory"]
        assert "cpu" not in container["resources"].get("limits", {})
    assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
