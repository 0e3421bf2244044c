"""The official libraries of Ollama, OpenAI and Anthropic, for Python and JavaScript, against the simulator.

They read all its answers, and get the same results through the sidecar.
"""

from __future__ import annotations

from typing import Any

import pytest

from clients.conftest import Compare
from support.machine.client_programs import SDKS, Results, failures
from support.servers import StartSimulator

BEHAVIOUR = {"ttft": 0.001, "inter_token": 0.001, "tokens": 20, "parallel": 8}
TEXT = "the quick brown fox jumps over a lazy dog while naïve 日本 🙂 the quick brown fox jumps over a "
CUT = "the quick brown "


@pytest.mark.parametrize("program", SDKS)
async def test_a_library_reads_all_answers_and_gets_the_same_through_the_sidecar(
    start_simulator: StartSimulator, compare: Compare, program: str
) -> None:
    simulator = await start_simulator(**BEHAVIOUR)
    results = await compare(program, simulator.url, "simulated")
    assert failures(results) == {}
    for name, result in results.items():
        assert not name.startswith("error") or "raised" in result, name
    _EXPECT[program.partition(".")[0].removesuffix("_sdk")](results)


def _expect_ollama(results: Results) -> None:
    assert results["chat"]["message"]["content"] == TEXT
    assert (results["chat"]["prompt_eval_count"], results["chat"]["eval_count"]) == (4, 20)
    assert "".join(line["message"]["content"] for line in results["chat stream"]) == TEXT
    assert results["chat cut stream"][-1]["done_reason"] == "length"
    assert results["chat tools"]["message"]["tool_calls"][0]["function"]["arguments"] == {"city": "fox"}
    assert results["chat thinking"]["message"]["thinking"]
    assert results["show"]["capabilities"] == ["completion", "tools", "thinking"]
    assert results["error of a missing model"]["status"] == 404


def _expect_openai(results: Results) -> None:
    choice = results["chat"]["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == (TEXT, "stop")
    assert results["chat cut"]["choices"][0]["finish_reason"] == "length"
    assert results["chat stream with usage"][-1]["usage"]["completion_tokens"] == 20
    assert results["chat stream"][-1]["choices"]  # an injected usage is not shown
    assert results["chat tools"]["choices"][0]["finish_reason"] == "tool_calls"
    assert results["response"]["output"][0]["content"][0]["text"] == TEXT
    assert results["error of a missing model"]["raised"].endswith("NotFoundError")


def _expect_anthropic(results: Results) -> None:
    streamed = _message(results["message stream"])
    assert [block["text"] for block in streamed["content"]] == [TEXT]
    assert (streamed["usage"]["input_tokens"], streamed["usage"]["output_tokens"]) == (4, 20)
    assert streamed["stop_reason"] == "end_turn"
    assert _message(results["message cut stream"])["stop_reason"] == "max_tokens"
    assert _message(results["message tools stream"])["content"][0]["input"] == {"city": "fox"}
    thought = _message(results["message thinking stream"])["content"]
    assert [block["type"] for block in thought] == ["thinking", "text"]
    assert results["error of a missing model"]["raised"].endswith("NotFoundError")


def _message(result: Any) -> Any:
    """Return the message of a stream. The programs for Python also return the names of its events."""
    return result[-1] if isinstance(result, list) else result


_EXPECT = {"ollama": _expect_ollama, "openai": _expect_openai, "anthropic": _expect_anthropic}
