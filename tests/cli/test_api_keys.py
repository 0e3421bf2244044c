"""The API keys of a stack: requests through its proxies have one, and no other server gets it."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmendpoint_cli.api_keys import key_file
from llmendpoint_cli.stack.folders import Folders
from llmendpoint_cli.stack.state import SidecarAddress, Stack

SIDECARS = tuple(
    SidecarAddress(name, f"http://localhost:{port}", f"http://localhost:{port + 1}", "http://localhost:11434")
    for name, port in (("one", 20001), ("two", 20003))
)


def stack(*keys: str) -> Stack:
    return Stack("0", 0.0, {"--key": [*keys]} if keys else {}, SIDECARS, ())


@pytest.mark.parametrize("url", [None, "http://localhost:20001", "http://127.0.0.1:20003/v1"])
def test_requests_to_a_proxy_of_the_stack_have_the_key_of_its_first_tenant(tmp_path: Path, url: str | None) -> None:
    folders = Folders(tmp_path)
    assert key_file(folders, stack("team-a=/a.key", "team-b=/b.key"), url) == folders.keys / "team-a"
    assert key_file(folders, stack(), url) is None


@pytest.mark.parametrize("url", ["http://localhost:20002", "http://192.0.2.1:20001", "http://localhost:11434"])
def test_other_servers_do_not_get_the_key(tmp_path: Path, url: str) -> None:
    assert key_file(Folders(tmp_path), stack("team-a=/a.key"), url) is None
