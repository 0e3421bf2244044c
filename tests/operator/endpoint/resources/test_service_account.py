"""The ServiceAccount of an endpoint's pods."""

from __future__ import annotations

from support.in_memory.endpoints import children


def test_no_token_is_mounted() -> None:
    account = children()["ServiceAccount/assistant"]
    assert account["automountServiceAccountToken"] is False
    assert children()["StatefulSet/assistant"]["spec"]["template"]["spec"]["serviceAccountName"] == "assistant"
