"""Bodies and names are read as Ollama's own code reads them. Go's answers are recorded; see `support.wire.go_corpus`."""

from __future__ import annotations

import random
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

from llmendpoint_common.contracts.ollama import canonical_name, model_key
from llmendpoint_common.process.errors import RequestBodyError
from llmendpoint_common.wire.request_body import SLICE_BYTES, BodyReader, RequestFacts, read_request_body
from llmendpoint_common.wire.request_fields import RequestFields
from llmendpoint_common.wire.usage_filter import ask_for_usage
from support.wire import go_corpus
from support.wire.go_corpus import Answer, Question

BODIES, NAMES = go_corpus.recorded()
JSON = [(question, answer) for question, answer in BODIES if question.kind == "json"]
#: What the reader found: a model, and where usage can be requested. A sentence if it refused the body.
Found = tuple[str, int] | str


def read_whole(body: bytes) -> Found:
    try:
        facts = read_request_body(body, usage=True)
    except RequestBodyError as error:
        return str(error)
    return facts.model, facts.usage_offset


def read_split(body: bytes, rng: random.Random) -> Found:
    """Read a body in pieces of random sizes, which are smaller than those of BodyReader."""
    reader = RequestFields(usage=True)
    longest = rng.choice((1, 2, 7, 60, 16384))
    cuts = [0]
    while cuts[-1] < len(body):
        cuts.append(cuts[-1] + rng.randint(1, longest))
    try:
        for start, stop in pairwise(cuts):
            reader.feed(body[start:stop])
        reader.finish()
    except RequestBodyError as error:
        return str(error)
    return reader.model, reader.usage_offset


def check(body: bytes, answer: Answer, found: Found) -> None:
    """Check what was found in a JSON body that Ollama accepts."""
    (model,) = answer.models
    if answer.exact and answer.exact != model:
        # Newer versions read the field `model` in two ways, so the body is in doubt.
        assert found == "the body has the field `model` in two spellings with different values", body
        return
    assert not isinstance(found, str), (body, found)
    assert found[0] == model, body
    if answer.chat:
        assert (found[1] >= 0) == (answer.stream and not answer.usage), body


def test_the_recording_contains_accepted_and_refused_bodies() -> None:
    accepted = sum(answer.accepted > 0 for _, answer in JSON)
    assert 500 < accepted < len(JSON) - 100


@pytest.mark.parametrize("seed", range(3))
def test_the_model_and_the_usage_of_a_json_body_are_those_that_go_finds(seed: int) -> None:
    rng = random.Random(seed)
    for question, answer in JSON:
        if answer.accepted:
            body = question.bytes()
            check(body, answer, read_whole(body))
            check(body, answer, read_split(body, rng))


@pytest.mark.parametrize("question", [question for question, _ in JSON[:140]], ids=range(140))
def test_a_reader_without_usage_finds_the_same_model(question: Question) -> None:
    body = question.bytes()
    found = read_whole(body)
    if isinstance(found, str):
        with pytest.raises(RequestBodyError):
            read_request_body(body)
    else:
        assert read_request_body(body).model == found[0]


@pytest.mark.parametrize("step", [1, 5, 1 << 20])
@pytest.mark.parametrize("kind", ["zstd", "form"])
def test_a_compressed_body_or_a_form_names_the_model_that_go_finds_or_is_refused(kind: str, step: int) -> None:
    same = 0
    for question, answer in BODIES:
        if question.kind != kind:
            continue
        coding = b"zstd" if kind == "zstd" else b""
        content_type, query = question.content_type.encode("latin-1"), question.query.encode()
        reader = BodyReader(content_type, coding, form=kind == "form", query=query)
        body = question.bytes()
        try:
            for start in range(0, len(body), step):
                reader.feed(body[start : start + step])
                reader.work(SLICE_BYTES)
            facts = reader.finish()
        except RequestBodyError:
            continue
        if answer.accepted:
            assert [facts.model] == answer.models, question
            same += 1
    assert same > 10


def test_names_are_shown_and_compared_as_ollama_does() -> None:
    assert sum(valid for _, _, valid, _ in NAMES) > 40
    for name, display, _, same_as in NAMES:
        assert canonical_name(name) == display
        first = next(other for other, *_ in NAMES if model_key(other) == model_key(name))
        assert first == NAMES[same_as][0], name


@pytest.mark.skipif(shutil.which("go") is None, reason="needs Go")
def test_go_agrees_on_bodies_that_nobody_has_seen_before(tmp_path: Path) -> None:
    try:
        program = go_corpus.build_oracle(tmp_path)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"the modules of the oracle are not available: {error.stderr}")
    rng = random.Random()
    questions = list(go_corpus.generated(rng.randrange(1 << 30), 3000))
    changed: list[tuple[Question, Answer, bytes]] = []
    answers = map(go_corpus.answered, go_corpus.ask(program, map(go_corpus.asked, questions)))
    for question, answer in zip(questions, answers, strict=True):
        if not answer.accepted:
            continue
        body = question.bytes()
        found = read_whole(body)
        check(body, answer, found)
        check(body, answer, read_split(body, rng))
        if answer.chat and not isinstance(found, str) and found[1] >= 0:
            asking = ask_for_usage(body, RequestFacts(usage_offset=found[1]))
            assert asking is not None
            changed.append((question, answer, asking))
    again = go_corpus.ask(program, [go_corpus.asked(question, asking) for question, _, asking in changed])
    for (_, answer, asking), reply in zip(changed, map(go_corpus.answered, again), strict=True):
        assert reply == answer._replace(usage=True), asking
