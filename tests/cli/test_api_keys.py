"""Requests through the proxies of a stack have a key and a model that the proxies admit. No other server gets a key."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from llmendpoint_cli import api_keys
from llmendpoint_cli.stack.folders import Folders
from llmendpoint_cli.stack.state import SidecarAddress, Stack
from llmendpoint_common.process.errors import InputError

SIDECARS = tuple(
    SidecarAddress(name, f"http://localhost:{port}", f"http://localhost:{port + 1}", "http://localhost:11434")
    for name, port in (("one", 20001), ("two", 20003))
)
#: Clients connect to the model server itself.
EXPORTER = SidecarAddress("one", "http://localhost:11434", "http://localhost:20002", "http://localhost:11434")
KEYS = ("team-a=/a.key", "team-b=/b.key")


@pytest.fixture
def used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the options of a run after it has used a stack."""

    def use(stack: Stack, **given: Any) -> Namespace:
        monkeypatch.setattr(api_keys, "Folders", lambda: Folders(tmp_path))
        monkeypatch.setattr(api_keys, "running_stack", lambda _: stack)
        options = {"run": None, "api_key": None, "api_key_file": None, "url": None, "model": None}
        namespace = Namespace(**options | given)
        api_keys.use_key_of_stack(namespace)
        return namespace

    return use


def stack(*keys: str, sidecars: tuple[SidecarAddress, ...] = SIDECARS, **fields: Any) -> Stack:
    return Stack("0", 0.0, {"--key": [*keys]} if keys else {}, sidecars, (), **fields)


@pytest.mark.parametrize("url", [None, "http://localhost:20001", "http://127.0.0.1:20003/v1"])
def test_requests_to_a_proxy_of_the_stack_have_the_key_of_its_first_tenant(
    used: Any, tmp_path: Path, url: str | None
) -> None:
    assert used(stack(*KEYS), url=url).api_key_file == Folders(tmp_path).keys / "team-a"
    assert used(stack(), url=url).api_key_file is None


@pytest.mark.parametrize("url", ["http://localhost:20002", "http://192.0.2.1:20001", "http://localhost:11434"])
def test_other_servers_do_not_get_the_key(used: Any, url: str) -> None:
    assert used(stack(*KEYS), url=url).api_key_file is None


@pytest.mark.parametrize("url", [None, "http://localhost:11434"])
def test_a_model_server_without_a_proxy_does_not_get_the_key(used: Any, url: str | None) -> None:
    exporter = stack(*KEYS, sidecars=(EXPORTER,))
    assert used(exporter, url=url).api_key_file is None
    assert api_keys.access_of_stack("http://localhost:11434") == (None, "")


@pytest.mark.parametrize(
    ("allowed", "given", "tenant", "model"),
    [
        ({"team-a": ("two",)}, {}, "team-a", "two:latest"),
        ({"team-a": ()}, {}, "team-b", "one"),
        ({"team-a": ("two",)}, {"model": "ONE:latest"}, "team-b", "ONE:latest"),
        ({"team-b": ("two",)}, {"api_key_file": Path("/b.key")}, None, "two:latest"),
        ({"team-a": ("two",)}, {"api_key_file": Path("/unknown.key")}, None, "one"),
    ],
)
def test_a_tenant_and_a_model_that_it_may_use_are_chosen(
    used: Any, tmp_path: Path, allowed: dict[str, Any], given: dict[str, Any], tenant: str | None, model: str
) -> None:
    options = used(stack(*KEYS, models=("one", "two:latest"), model="one", allowed_models=allowed), **given)
    expected = given["api_key_file"] if tenant is None else Folders(tmp_path).keys / tenant
    assert (options.api_key_file, options.model) == (expected, model)


def test_requests_without_a_key_use_a_model_that_everyone_may_use(used: Any) -> None:
    options = used(stack(models=("one", "two"), other_models=("two",)))
    assert (options.api_key_file, options.model) == (None, "two")


def test_a_run_is_refused_before_it_sends_a_request_that_no_tenant_may_send(used: Any) -> None:
    limited = stack(*KEYS, models=("one",), other_models=("two",), allowed_models={"team-a": ()})
    with pytest.raises(InputError, match="team-a may use no model; team-b may use two; choose one of these with"):
        used(limited)
    with pytest.raises(InputError, match="does not allow the model three: "):
        used(limited, model="three")
    assert used(limited, model="two").api_key_file.name == "team-b"
