"""The API key of a run: read from a file, sent to the server, and in no other place."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest
from aiohttp import web

from llmendpoint_common.process.sockets import bind_sockets, port_of
from llmendpoint_common.process.units import Address
from llmendpoint_loadjob.main import main
from llmendpoint_loadjob.settings import parse_settings

KEY = "sk-canary-7f3a"
RUN = ("--url=http://x:1", "--model=m:1")


def key_of(path: Path) -> str | None:
    return parse_settings([*RUN, f"--api-key-file={path}"]).api_key


@pytest.mark.parametrize("text", [KEY, f"{KEY}\n", f"\ufeff{KEY}\r\n", f"  {KEY} "])
def test_what_editors_add_to_a_file_is_not_part_of_the_key(tmp_path: Path, text: str) -> None:
    path = tmp_path / "key"
    path.write_text(text, encoding="utf-8")
    assert key_of(path) == KEY


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "the API key is empty"),
        (b" \n", "the API key is empty"),
        (f"{KEY}\r\nX-Other: 1".encode(), "the API key contains a control character, for example a line end"),
        (f"{KEY}\0".encode(), "the API key contains a control character, for example a line end"),
        (KEY.encode() + b"\xff", "the API key is not valid UTF-8"),
        (KEY.encode() * 2000, "the API key is longer than 16 KiB"),
        (None, "No such file or directory"),
    ],
)
def test_a_key_that_cannot_be_sent_is_refused_without_quoting_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], data: bytes | None, sentence: str
) -> None:
    path = tmp_path / "key"
    if data is not None:
        path.write_bytes(data)
    assert main([*RUN, f"--api-key-file={path}"]) == 2
    assert capsys.readouterr().err == f"llmendpoint_loadjob: {path}: {sentence}\n"


@pytest.mark.parametrize("flags", [(f"--api-key={KEY}", "--api-key-file=x"), (f"--api-key={KEY}\n1",)])
def test_a_wrong_key_on_the_command_line_is_refused_without_quoting_it(
    capsys: pytest.CaptureFixture[str], flags: tuple[str, ...]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*RUN, *flags])
    assert ended.value.code == 2
    assert KEY not in capsys.readouterr().err


def test_a_key_beside_a_header_with_one_is_refused_before_an_earlier_result_is_removed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    request = {"headers": {"authorization": "Bearer x"}}
    document = {"target": {"url": "http://127.0.0.1:1"}, "model": "m", "load": {"concurrency": 1}, "request": request}
    (tmp_path / "run.json").write_text(json.dumps(document))
    (tmp_path / "out").mkdir()
    (tmp_path / "out/summary.json").write_text("{}")
    for out in ("out", "new"):
        assert main([f"--run={tmp_path}/run.json", f"--api-key={KEY}", f"--out={tmp_path / out}"]) == 2
        error = capsys.readouterr().err
        assert error == "llmendpoint_loadjob: set either an API key or the header Authorization, not both\n"
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["summary.json"]
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("status", [200, 500])
async def test_the_server_gets_the_key_and_no_output_shows_it(tmp_path: Path, status: int) -> None:
    """The server repeats the key in its answers, as an error message of an echoing server would."""
    seen: set[str] = set()

    async def answer(request: web.Request) -> web.Response:
        seen.add(request.headers["Authorization"])
        body = {"error": f"{KEY} is wrong", "message": {"content": KEY}, "done": True, "done_reason": KEY}
        return web.json_response(body, status=status)

    application = web.Application()
    application.router.add_post("/{path:.*}", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    sockets = bind_sockets(Address("127.0.0.1", 0))
    await web.SockSite(runner, sockets[0]).start()
    path = tmp_path / "key"
    path.write_text(KEY)
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "llmendpoint_loadjob", f"--url=http://127.0.0.1:{port_of(sockets)}", "--model=m:1",
            "--max-requests=3", f"--api-key-file={path}", f"--out={tmp_path}/out", "--log-level=debug",
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        output, _ = await process.communicate()
    finally:
        await runner.cleanup()
    assert seen == {f"Bearer {KEY}"}
    written = [file.read_bytes() for file in (tmp_path / "out").iterdir()]
    assert len(written) == 5
    assert not [text for text in (output, *written) if KEY.encode() in text]
