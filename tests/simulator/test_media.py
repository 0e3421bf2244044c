"""Images and transcriptions, cached tokens, aliases, and embeddings with a latency."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import aiohttp
import openai
import pytest

from support.servers import StartSimulator

MESSAGES = [{"role": "user", "content": "one two three four"}]


def form(**fields: str) -> aiohttp.FormData:
    data = aiohttp.FormData()
    for name, value in fields.items():
        data.add_field(name, value)
    data.add_field("file", b"RIFF", filename="speech.wav", content_type="audio/wav")
    return data


async def test_a_transcription_is_json_or_text(start_simulator: StartSimulator, http: aiohttp.ClientSession) -> None:
    simulator = await start_simulator(tokens=3)
    url = f"{simulator.url}/v1/audio/transcriptions"
    async with http.post(url, data=form(model="simulated")) as response:
        assert await response.json() == {"text": "the quick brown"}
    async with http.post(url, data=form(model="simulated", response_format="text")) as response:
        assert (response.headers["Content-Type"], await response.text()) == (
            "text/plain; charset=utf-8",
            "the quick brown",
        )
    account = simulator.simulator.ledger.accounts["simulated:latest/openai_transcriptions"]
    assert (account.completed, account.reasons) == (2, {"text": 2})


async def test_the_library_of_openai_reads_transcriptions_and_images(start_simulator: StartSimulator) -> None:
    simulator = await start_simulator(tokens=3, image_models=["painter"])
    async with openai.AsyncOpenAI(base_url=f"{simulator.url}/v1", api_key="x", max_retries=0) as client:
        heard = await client.audio.transcriptions.create(model="simulated", file=("speech.wav", b"RIFF"))
        painted = await client.images.generate(model="painter", prompt="a fox", response_format="b64_json")
    assert heard.text == "the quick brown"
    assert painted.data is not None
    assert base64.b64decode(painted.data[0].b64_json or "").startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("data", "status", "sentence"),
    [
        (form(model="none"), 404, "model 'none' not found"),
        (form(), 400, "model is required"),
        (b"{}", 400, "multipart/form-data"),
    ],
)
async def test_a_transcription_that_is_refused(
    start_simulator: StartSimulator, http: aiohttp.ClientSession, data: Any, status: int, sentence: str
) -> None:
    simulator = await start_simulator()
    async with http.post(f"{simulator.url}/v1/audio/transcriptions", data=data) as response:
        assert response.status == status
        assert sentence in (await response.json())["error"]["message"]


@pytest.mark.parametrize("path", ["/v1/images/generations", "/v1/images/edits"])
async def test_a_model_for_images_makes_one(
    start_simulator: StartSimulator, http: aiohttp.ClientSession, path: str
) -> None:
    simulator = await start_simulator(image_models=["painter"])
    body = {"model": "painter", "prompt": "a fox", "image": "data:image/png;base64,aGVsbG8="}
    async with http.post(simulator.url + path, json=body) as response:
        answer = await response.json()
    assert base64.b64decode(answer["data"][0]["b64_json"]).startswith(b"\x89PNG")
    async with http.post(f"{simulator.url}/api/show", json={"model": "painter"}) as response:
        assert (await response.json())["capabilities"] == ["image"]


async def test_cached_tokens_are_reported_if_there_are_any(
    start_simulator: StartSimulator, http: aiohttp.ClientSession
) -> None:
    simulator = await start_simulator(cached_share=0.5)

    async def ask(path: str) -> dict[str, Any]:
        body = {"model": "simulated", "messages": MESSAGES, "input": "a b c d", "max_tokens": 9, "stream": False}
        async with http.post(simulator.url + path, json=body) as response:
            answer: dict[str, Any] = await response.json()
            return answer

    assert (await ask("/api/chat"))["prompt_eval_cached_count"] == 2
    assert (await ask("/v1/chat/completions"))["usage"]["prompt_tokens_details"] == {"cached_tokens": 2}
    assert (await ask("/v1/responses"))["usage"]["input_tokens_details"] == {"cached_tokens": 2}
    assert (await ask("/v1/messages"))["usage"]["cache_read_input_tokens"] == 2


async def test_an_embedding_takes_its_time(start_simulator: StartSimulator, http: aiohttp.ClientSession) -> None:
    simulator = await start_simulator(embedding_models=["embed"], embed=0.2)
    begun = asyncio.get_running_loop().time()
    async with http.post(f"{simulator.url}/api/embed", json={"model": "embed", "input": "hello"}) as response:
        assert (await response.json())["total_duration"] > 0.19e9
    assert asyncio.get_running_loop().time() - begun > 0.19
