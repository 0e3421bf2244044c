"""Modelfiles: Ollama's grammar, and the lines of what Ollama would ignore or refuse.

`tests/sidecar/test_models_of_ollama.py` compares the result with a real Ollama.
"""

from __future__ import annotations

import re

import msgspec
import pytest

from llmendpoint_common.contracts.modelfile import Message, Modelfile, parse_modelfile
from llmendpoint_common.contracts.sidecar import DeclaredModel, Gguf, Registry
from llmendpoint_common.process.errors import ModelfileError

EVERYTHING = '''# A comment, and instructions in any case

FROM llama3.2:3b
parameter temperature 0.7
PARAMETER num_ctx 8192
PARAMETER use_mmap F
PARAMETER stop "<|user|>"
PARAMETER stop end of text
  TEMPLATE """{{ .Prompt }}
# not a comment
"""
SYSTEM "two
lines"
LICENSE """A"""
LICENSE B
MESSAGE user Hello there
MESSAGE assistant """Hi,
you"""
RENDERER qwen3
PARSER qwen3
REQUIRES v0.14.0
'''


def test_every_instruction_is_read_as_ollama_reads_it() -> None:
    assert parse_modelfile(EVERYTHING) == Modelfile(
        base="llama3.2:3b",
        template="{{ .Prompt }}\n# not a comment\n",
        system="two\nlines",
        renderer="qwen3",
        parser="qwen3",
        requires="0.14.0",
        license=("A", "B"),
        messages=(Message("user", "Hello there"), Message("assistant", "Hi,\nyou")),
        parameters={
            "temperature": 0.7,
            "num_ctx": 8192,
            "use_mmap": False,
            "stop": ["<|user|>", "end of text"],
        },
    )


@pytest.mark.parametrize("ending", ["\r\n", "\r"])
def test_lines_may_end_as_on_other_systems(ending: str) -> None:
    assert parse_modelfile("\ufeff" + EVERYTHING.replace("\n", ending)) == parse_modelfile(EVERYTHING)


def test_only_what_is_set_becomes_a_field_of_the_request() -> None:
    assert parse_modelfile("FROM a\nSYSTEM Be brief.").create_fields() == {"system": "Be brief."}
    assert parse_modelfile("MESSAGE user hi").create_fields() == {"messages": ({"role": "user", "content": "hi"},)}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("FROM a\nFORM b", "line 2 of the Modelfile: 'FORM' is not an instruction"),
        ("FROM a\n\nSYSTEM", "line 3 of the Modelfile: 'SYSTEM' is not an instruction with a value"),
        ("FROM a\nFROM b", "line 2 of the Modelfile: FROM is already set in line 1"),
        ("SYSTEM a\nsystem b", "line 2 of the Modelfile: SYSTEM is already set in line 1"),
        ('SYSTEM ""', "SYSTEM is empty, which has no effect"),
        ('FROM a\nSYSTEM """b\nc', "line 2 of the Modelfile: the quoted text of SYSTEM does not end"),
        ("ADAPTER ./lora.gguf", "ADAPTER is not supported"),
        ("FROM ./model.gguf", "set source.gguf.path"),
        ("FROM /home/ollama/.ollama/models/blobs/sha256-1", "set source.gguf.path"),
        ("FROM a b", "'a b' is not the name of a model"),
        ("FROM a/../b", "is not the name of a model"),
        ("PARAMETER num_ctx many", "'many' is not a value of the parameter num_ctx: write a whole number"),
        ("PARAMETER temperature nan", "write a number"),
        ("PARAMETER use_mmap yes", "write true or false"),
        ("PARAMETER warmth 1", "'warmth' is not a parameter. Parameters are"),
        ("PARAMETER mirostat 1", "no longer has an effect"),
        ("PARAMETER top_k 1\nPARAMETER top_k 2", "line 2 of the Modelfile: the parameter top_k is set twice"),
        ("PARAMETER top_k", "PARAMETER needs a name and a value"),
        ("MESSAGE tool hi", "the role of MESSAGE must be system, user or assistant"),
        ("REQUIRES soon", "REQUIRES must be a version"),
    ],
)
def test_what_would_have_no_effect_is_refused_with_its_line(text: str, sentence: str) -> None:
    with pytest.raises(ModelfileError, match=re.escape(sentence)):
        parse_modelfile(text)


@pytest.mark.parametrize(
    ("declared", "sentence"),
    [
        ({"modelfile": "SYSTEM a"}, "the Modelfile needs FROM, because there is no source"),
        ({"modelfile": "FROM A:1"}, "cannot change a model under its own name"),
        ({"modelfile": "FROM b:1", "gguf": Gguf("/b.gguf")}, "has FROM although the source is set"),
        ({"modelfile": "SYSTEM a", "registry": Registry("registry.ollama.ai", "library/a")}, "under its own name"),
        ({"gguf": Gguf("/b.gguf"), "registry": Registry("r", "b")}, "may have registry or gguf"),
    ],
)
def test_a_modelfile_and_a_source_that_contradict_each_other_are_refused(
    declared: dict[str, object], sentence: str
) -> None:
    document = msgspec.json.encode({"name": "a:1", **msgspec.to_builtins(declared)})
    with pytest.raises(msgspec.ValidationError, match=sentence):
        msgspec.json.decode(document, type=DeclaredModel)
