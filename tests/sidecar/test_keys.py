"""Files of API keys: mistakes are named once, without the key, and a key never means two tenants."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import aiohttp
import pytest

from llmendpoint_common.contracts.sidecar import SidecarConfig
from llmendpoint_sidecar.inputs.files import InputFiles
from llmendpoint_sidecar.inputs.keys import read_keys
from llmendpoint_sidecar.settings import parse_settings
from support.servers import StartSidecar, StartSimulator

PEPPER = b"pepper"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "keys"
    made.mkdir()
    return made


def tenant(folder: Path, key: bytes, *more: Path) -> str | None:
    return read_keys([folder, *more], PEPPER).table.tenant_of(key)


def reports(*folders: Path) -> list[str]:
    return [report.sentence for report in read_keys(folders, PEPPER).reports]


@pytest.mark.parametrize(
    "content",
    [
        b"key-of-a",
        b"key-of-a\n",
        b"key-of-a\r\n",
        b"  key-of-a\t\r\n\r\n",
        b"\xef\xbb\xbfkey-of-a",
        b"\xef\xbb\xbfkey-of-a\r\n",
    ],
)
def test_marks_and_line_ends_around_a_key_do_not_count(folder: Path, content: bytes) -> None:
    (folder / "a").write_bytes(content)
    assert tenant(folder, b"key-of-a") == "a"
    assert reports(folder) == []


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "it is empty"),
        (b" \r\n", "it is empty"),
        (b"\xef\xbb\xbf\n", "it is empty"),
        ("key-of-a".encode("utf-16"), "the file is in UTF-16; save it as UTF-8"),
        (b"\xfe\xff" + "key-of-a".encode("utf-16-be"), "the file is in UTF-16; save it as UTF-8"),
        ("key-of-a".encode("utf-16-le"), "it contains a control character"),
        (b"key\nof-a", "it has several lines; a file contains one key"),
        (b"key\rof-a", "it has several lines; a file contains one key"),
        (b"key\x1bof-a", "it contains a control character"),
        (b"k" * 4097, "it is longer than 4096 bytes"),
        (b"k" * 1_000_000, "it is longer than 4096 bytes"),
    ],
)
def test_a_key_that_no_client_can_send_is_named(folder: Path, content: bytes, sentence: str) -> None:
    (folder / "a").write_bytes(content)
    (folder / "b").write_text("key-of-b")
    assert tenant(folder, content.strip()) is None
    assert tenant(folder, b"key-of-b") == "b"
    (said,) = reports(folder)
    assert said.startswith(f"the API key of tenant 'a' in {folder} is not used: {sentence}")
    assert "of-a" not in said


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        (b"key of a", "contains spaces, which some clients change"),
        ("schlüssel".encode(), "contains characters outside ASCII, which many clients cannot send"),
        ("kéy-latin".encode("latin-1"), "contains characters outside ASCII, which many clients cannot send"),
    ],
)
def test_a_key_that_only_some_clients_can_send_is_used_and_named(folder: Path, key: bytes, sentence: str) -> None:
    (folder / "a").write_bytes(key)
    assert tenant(folder, key) == "a"
    assert reports(folder) == [f"the API key of tenant 'a' in {folder} {sentence}"]


def test_a_key_of_4096_bytes_is_used(folder: Path) -> None:
    (folder / "a").write_bytes(b"\xef\xbb\xbf" + b"k" * 4096 + b"\r\n")
    assert tenant(folder, b"k" * 4096) == "a"


def test_a_key_that_two_tenants_share_identifies_neither(folder: Path, tmp_path: Path) -> None:
    second = tmp_path / "second"
    second.mkdir()
    (folder / "a").write_text("same-key")
    (folder / "c").write_text("key-of-c")
    (second / "b").write_text("\ufeffsame-key\n")
    assert tenant(folder, b"same-key", second) is None
    assert tenant(folder, b"key-of-c", second) == "c"
    (said,) = reports(folder, second)
    assert said == "the tenants 'a' and 'b' have the same API key; it is not used for any of them"


def test_a_tenant_may_have_the_same_key_in_two_folders(folder: Path, tmp_path: Path) -> None:
    second = tmp_path / "second"
    second.mkdir()
    for place in (folder, second):
        (place / "a").write_text("key-of-a")
    assert tenant(folder, b"key-of-a", second) == "a"
    assert reports(folder, second) == []


def test_without_any_usable_key_the_log_says_that_nobody_can_enter(folder: Path, tmp_path: Path) -> None:
    assert reports(folder, tmp_path / "missing") == [
        f"{folder} and {tmp_path}/missing: there is no usable API key, so every request is refused"
    ]


def test_a_file_name_that_is_not_text_is_not_a_tenant(folder: Path) -> None:
    (folder / os.fsdecode(b"caf\xe9")).write_text("key-of-a")
    (folder / "b").write_text("key-of-b")
    assert tenant(folder, b"key-of-a") is None
    (said,) = reports(folder)
    assert said.endswith("the name of the file is not UTF-8")
    said.encode()


def test_neither_keys_nor_private_key_are_in_the_text_of_the_inputs(folder: Path) -> None:
    (folder / "a").write_text("key-of-a")
    read = read_keys([folder], PEPPER)
    assert repr(read.table) == "KeyTable of 1 keys"
    assert "key-of-a" not in repr(read)
    assert "pepper" not in repr(read)


def test_only_what_is_new_is_logged(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "a").write_text("")
    (folder / "b").write_text("key-of-b")
    (folder / "d").write_text("key-of-d")
    files = InputFiles(parse_settings([f"--keys={folder}"]))
    with caplog.at_level(logging.INFO):
        inputs = files.load(SidecarConfig())
        for _ in range(3):
            assert files.reload(inputs) is inputs
        assert [record.levelname for record in caplog.records] == ["ERROR"]
        (folder / "c").write_text("key-of-b")
        inputs = files.reload(inputs)
        assert len(caplog.records) == 2
        assert "'b' and 'c'" in caplog.records[-1].getMessage()
        (folder / "a").write_text("key-of-a")
        (folder / "c").unlink()
        files.reload(inputs)
        assert len(caplog.records) == 2


async def test_a_shared_key_is_refused_and_its_own_is_not(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, http: aiohttp.ClientSession, folder: Path
) -> None:
    for name, key in (("a", "same-key"), ("b", "same-key"), ("c", "\ufeffkey-of-c")):
        (folder / name).write_text(key)
    simulator = await start_simulator()
    sidecar = await start_sidecar(simulator.port, keys=[folder])
    url = f"http://127.0.0.1:{sidecar.port}/api/tags"
    for key, status in (("same-key", 401), ("key-of-c", 200)):
        async with http.get(url, headers={"x-api-key": key}) as response:
            assert response.status == status
    (folder / "b").write_text("key-of-b")
    await sidecar.inputs.poll()
    for key in ("same-key", "key-of-b"):
        async with http.get(url, headers={"Authorization": f"Bearer {key}"}) as response:
            assert response.status == 200
    assert sidecar.runtime.metrics.totals_by("requests", "tenant") == {"": 1, "a": 1, "b": 1, "c": 1}
