"""Common clients, unchanged, through an endpoint that requires keys and counts per tenant."""

from __future__ import annotations

import gc
import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import anthropic
import ollama
import openai
import pytest

from support.on_cluster.cluster import Namespace, Parameters, fetch, new_namespace
from support.waiting import wait_until

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(900),
    # These clients leave closing their sockets to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """Collect unclosed sockets of the clients, while their warnings are expected."""
    yield
    gc.collect()


KEY, SECOND, RENEWED = "key-of-team-a", "key-of-team-b", "renewed-key-of-team-a"


@dataclass(frozen=True)
class Guarded:
    """An endpoint with keys: the URLs of its Service and of its metrics, and its model."""

    namespace: Namespace
    url: str
    admin: str
    model: str

    def tokens(self, kind: str, tenant: str, operation: str) -> float:
        """Return the counts of the meter."""
        pattern = rf'llmendpoint_{kind}_tokens_total{{model_name="{self.model}",operation="{operation}",tenant="{tenant}"}} (\S+)'
        found = re.search(pattern, fetch(f"{self.admin}/metrics").decode())
        return float(found[1]) if found else 0.0

    def counted(self, tenant: str, operation: str, prompt: int | None, generated: int | None) -> bool:
        """Return whether the meter has these counts."""
        seen = self.tokens("prompt", tenant, operation), self.tokens("generation", tenant, operation)
        return seen == (prompt, generated)


@pytest.fixture(scope="module")
def guarded(chart: None, parameters: Parameters) -> Iterator[Guarded]:
    """An endpoint with two tenants. The second tenant may send two requests per minute."""
    namespace = new_namespace("guarded")
    secret(namespace, KEY)
    spec = {
        "models": [{"name": parameters.model, **parameters.source()}],
        "gpu": {"count": 0},
        "storage": {"type": "Ephemeral"},
        "metering": {
            "auth": {"secretRefs": [{"name": "keys"}]},
            "tenants": [{"name": "team-b", "requestsPerMinute": 2, "allowedModels": [parameters.model]}],
        },
        "pod": {"terminationGracePeriodSeconds": 10},
    }
    manifest = {
        "apiVersion": "llmendpoint.dev/v1alpha1",
        "kind": "LLMEndpoint",
        "metadata": {"name": "shared"},
        "spec": spec,
    }
    namespace.apply(manifest)
    namespace.run("wait", "--for=condition=Ready", "--timeout=10m", "llmendpoint/shared")
    with namespace.forward("service/shared", 11434) as url, namespace.forward("pod/shared-0", 8001) as admin:
        yield Guarded(namespace, url, admin, parameters.model)
    namespace.run("delete", "namespace", namespace.name, "--wait=false")


def secret(namespace: Namespace, key: str) -> None:
    """Apply the Secret with the tenants' keys."""
    data = {"team-a": key, "team-b": SECOND}
    namespace.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "stringData": data})


def test_without_a_key_nobody_gets_in(guarded: Guarded) -> None:
    with pytest.raises(ollama.ResponseError, match="API key") as refused:
        ollama.Client(guarded.url).generate(guarded.model, "hello")
    assert refused.value.status_code == 401
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=f"{guarded.url}/v1", api_key="wrong", max_retries=0).models.list()
    with pytest.raises(anthropic.AuthenticationError):
        anthropic.Anthropic(base_url=guarded.url, api_key="wrong", max_retries=0).messages.create(
            model=guarded.model, max_tokens=4, messages=[{"role": "user", "content": "hello"}]
        )


def test_ollamas_client(guarded: Guarded) -> None:
    client = ollama.Client(guarded.url, headers={"Authorization": f"Bearer {KEY}"})
    assert guarded.model in [model.model for model in client.list().models]
    options = {"num_predict": 8, "seed": 1}
    *_, last = client.chat(guarded.model, [{"role": "user", "content": "hello"}], stream=True, options=options)
    assert last.done
    wait_until(lambda: guarded.counted("team-a", "chat", last.prompt_eval_count, last.eval_count))
    whole = client.generate(guarded.model, "hello", options=options)
    wait_until(lambda: guarded.counted("team-a", "generate", whole.prompt_eval_count, whole.eval_count))
    with pytest.raises(ollama.ResponseError, match=r"spec\.models") as refused:
        client.pull("llama3.2:1b")
    assert refused.value.status_code == 403


def test_openais_client(guarded: Guarded) -> None:
    client = openai.OpenAI(base_url=f"{guarded.url}/v1", api_key=KEY, max_retries=0)
    assert guarded.model in [model.id for model in client.models.list()]
    chunks = list(
        client.chat.completions.create(
            model=guarded.model,
            messages=[{"role": "user", "content": "hello"}],
            max_tokens=8,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    usage = chunks[-1].usage
    assert usage is not None
    wait_until(lambda: guarded.counted("team-a", "openai_chat", usage.prompt_tokens, usage.completion_tokens))
    completion = client.completions.create(model=guarded.model, prompt="hello", max_tokens=8)
    other = completion.usage
    assert other is not None
    wait_until(lambda: guarded.counted("team-a", "openai_completions", other.prompt_tokens, other.completion_tokens))
    response = client.responses.create(model=guarded.model, input="hello", max_output_tokens=8)
    last = response.usage
    assert last is not None
    wait_until(lambda: guarded.counted("team-a", "openai_responses", last.input_tokens, last.output_tokens))


def test_anthropics_client(guarded: Guarded) -> None:
    client = anthropic.Anthropic(base_url=guarded.url, api_key=KEY, max_retries=0)
    messages: list[anthropic.types.MessageParam] = [{"role": "user", "content": "hello"}]
    with client.messages.stream(model=guarded.model, max_tokens=8, messages=messages) as stream:
        streamed = stream.get_final_message().usage
    wait_until(lambda: guarded.tokens("generation", "team-a", "anthropic_messages") == streamed.output_tokens)
    whole = client.messages.create(model=guarded.model, max_tokens=8, messages=messages).usage
    wait_until(
        lambda: (
            guarded.tokens("generation", "team-a", "anthropic_messages") == streamed.output_tokens + whole.output_tokens
        )
    )


def test_curl_and_a_limit_that_says_when_to_come_again(guarded: Guarded) -> None:
    body = json.dumps({"model": guarded.model, "prompt": "hello", "stream": False, "options": {"num_predict": 2}})
    command = ["curl", "-sS", "-i", "-H", f"Authorization: Bearer {SECOND}", "-d", body, f"{guarded.url}/api/generate"]
    answers = [subprocess.run(command, check=True, capture_output=True, text=True).stdout for _ in range(3)]
    assert [answer.split()[1] for answer in answers] == ["200", "200", "429"]
    assert re.search(r"Retry-After: \d+", answers[-1])
    assert "2 requests per minute" in answers[-1]


def test_a_renewed_key_is_taken_without_a_restart(guarded: Guarded) -> None:
    before = guarded.namespace.get("pod", "shared-0")["metadata"]["uid"]
    secret(guarded.namespace, RENEWED)
    renewed = ollama.Client(guarded.url, headers={"Authorization": f"Bearer {RENEWED}"})

    def is_taken() -> bool:
        try:
            return bool(renewed.list().models)
        except ollama.ResponseError:
            return False

    wait_until(is_taken, 150, every=1)  # kubelet looks about once a minute
    with pytest.raises(ollama.ResponseError, match="API key"):
        ollama.Client(guarded.url, headers={"Authorization": f"Bearer {KEY}"}).list()
    assert guarded.namespace.get("pod", "shared-0")["metadata"]["uid"] == before
