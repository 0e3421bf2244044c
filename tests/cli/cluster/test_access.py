"""The kubeconfig of the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmendpoint_cli.main import main

CONTEXT_WITHOUT_CONTENT = """clusters: [{name: a, cluster: {server: "http://127.0.0.1:1"}}]
contexts: [{name: c, context: 7}]
users: []
current-context: c
"""


@pytest.mark.parametrize(
    "content", [b"", b"x", b"[]", b"{", b'{"clusters": 5}', b"\xff\xfe", CONTEXT_WITHOUT_CONTENT.encode()]
)
@pytest.mark.parametrize("command", ["doctor", "results"])
def test_a_damaged_kubeconfig_is_named_in_one_sentence(
    tmp_path: Path, content: bytes, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "config"
    file.write_bytes(content)
    assert main([command, "--kubeconfig", str(file), "default/x"]) == 1
    output = capsys.readouterr()
    said = " ".join((output.out + output.err).split())
    assert f"the kubeconfig cannot be used: {file} is damaged, or is another file" in said


def test_a_kubeconfig_that_cannot_be_read_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["results", "--kubeconfig", str(tmp_path), "default/x"]) == 1
    assert f"the kubeconfig cannot be used: {tmp_path}: Is a directory" in capsys.readouterr().err
