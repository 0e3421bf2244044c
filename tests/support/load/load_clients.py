"""Clients of the load generator, and one request of them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from llmendpoint_common.contracts.loadrun import Api, RunDocument, RunLoad, RunRequest, RunTarget
from llmendpoint_loadjob.client.client import Client
from llmendpoint_loadjob.client.target import parse_target
from llmendpoint_loadjob.dataset.prompts import Prompt
from llmendpoint_loadjob.result.timings import Sample

PROMPT = Prompt("q", "Math", (("user", "What is seven times six, in words of the twelfth century?"),))


class Clients:
    """Makes clients, and closes them at the end of the test."""

    def __init__(self) -> None:
        self.made: list[Client] = []

    def __call__(
        self,
        url: str,
        api: Api = Api.OLLAMA_CHAT,
        *,
        api_key: str | None = None,
        cacert: Path | None = None,
        insecure: bool | None = None,
        **request: Any,
    ) -> Client:
        """Return a client. `request` has fields of the run's requests."""
        document = RunDocument(
            RunTarget(url, api, insecure_skip_verify=insecure),
            "m",
            RunLoad(concurrency=1),
            request=RunRequest(**{"timeout_seconds": 5.0, **request}),
        )
        client = Client(parse_target(url), document, api_key=api_key, cacert=cacert, clock=time.perf_counter)
        self.made.append(client)
        return client


def new_sample() -> Sample:
    return Sample("id", "q", "Math", time.perf_counter())


async def ask(client: Client, prompt: Prompt = PROMPT, **options: Any) -> Sample:
    """Send one request and return its sample."""
    sample = new_sample()
    await client.send(prompt, sample, **options)
    return sample
