"""Request bodies and model names on which readers differ, and what Go reads in them (`go_oracle`).

`scripts/record_go.py` asks Go and writes the answers to `tests/common/wire/go_answers.json`, so that the tests need no
Go. A body is written as runs: a text in Latin-1, and how often it is repeated.
"""

from __future__ import annotations

import base64
import json
import random
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

Runs = list[tuple[str, int]]

SOURCE = Path(__file__).parent / "go_oracle"
ANSWERS = Path(__file__).parent.parent / "common" / "wire" / "go_answers.json"


class Question(NamedTuple):
    """A body for the oracle. `kind` is json, zstd or form."""

    kind: str
    body: Runs
    content_type: str = ""
    query: str = ""

    def bytes(self) -> bytes:
        """Return the body."""
        return b"".join(text.encode("latin-1") * count for text, count in self.body)


class Answer(NamedTuple):
    """What Go read; see `Answer` in the oracle's source."""

    models: list[str]
    accepted: int
    exact: str
    chat: bool
    stream: bool
    usage: bool


def build_oracle(folder: Path) -> Path:
    """Compile the oracle. Raises CalledProcessError if its modules cannot be had."""
    program = folder / "go_oracle"
    subprocess.run(["go", "build", "-o", program, "."], cwd=SOURCE, check=True, capture_output=True, text=True)
    return program


def ask(program: Path, questions: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the oracle's answers."""
    lines = "".join(json.dumps(question) + "\n" for question in questions)
    run = subprocess.run([program], input=lines, check=True, capture_output=True, text=True)
    return [json.loads(line) for line in run.stdout.splitlines()]


def asked(question: Question, body: bytes | None = None) -> dict[str, Any]:
    """Return a question in the oracle's format."""
    return {
        "kind": question.kind,
        "body": base64.b64encode(question.bytes() if body is None else body).decode(),
        "contentType": question.content_type,
        "query": question.query,
    }


def answered(answer: dict[str, Any]) -> Answer:
    """Return an answer of the oracle."""
    models = answer["models"] or []
    return Answer(models, answer["accepted"], answer["exact"], answer["chat"], answer["stream"], answer["usage"])


# ---- JSON bodies that somebody thought of

_PLAIN = [
    # Ordinary ones.
    '{"model":"tiny"}',
    '{"model":"tiny","prompt":"hi","stream":false}',
    ' \t\r\n{ "model" : "tiny" , "messages" : [ { "role" : "user", "content" : "hi" } ] } \n',
    '{"prompt":"hi"}',
    "{}",
    '{"model":""}',
    # Spellings of names.
    '{"MODEL":"tiny"}',
    '{"Model":"tiny","mODEL":"other"}',
    '{"model":"tiny","MODEL":"other"}',
    '{"MODEL":"other","model":"tiny"}',
    '{"MODEL":"tiny","model":"tiny"}',
    '{"\\u006dodel":"tiny"}',
    '{"model":"other","\\u006D\\u004fdel":"tiny"}',
    '{"\\u006d\\u006f\\u0064\\u0065\\u006c":"tiny"}',
    '{"model\\u0000":"tiny"}',
    '{"model ":"tiny"}',
    '{"models":"tiny","mode":"l","odel":"x"}',
    '{"mod\\u0065l":"tiny","mod\xe9l":"x"}',
    '{"\\"model":"x","model\\"":"y","\\\\model":"z"}',
    # Repetition, and null.
    '{"model":"tiny","model":"other"}',
    '{"model":"tiny","model":null}',
    '{"model":null,"model":"tiny"}',
    '{"model":null}',
    '{"model":"tiny","MODEL":null}',
    '{"MODEL":"tiny","model":null}',
    '{"model":"tiny","model":""}',
    # Other types.
    '{"model":5}',
    '{"model":5,"model":"tiny"}',
    '{"model":["tiny"]}',
    '{"model":{"model":"tiny"}}',
    '{"model":true}',
    # Elsewhere.
    '{"x":{"model":"tiny"}}',
    '{"x":[{"model":"a"},{"model":"b"}],"model":"tiny","y":{"model":"c"}}',
    '{"x":"model","y":"\\"model\\":\\"secret\\"","model":"tiny"}',
    '{"x":"\\\\","model":"tiny"}',
    '{"x":"\\\\\\"model\\":","model":"tiny"}',
    '{"x":"a\\"model","model":"tiny"}',
    '{"x":"\\"model","model":"tiny"}',
    '{"format":"json","model":"model"}',
    '{"x":["model","model",":"],"model":"tiny"}',
    '[{"model":"tiny"}]',
    '"model"',
    "null",
    "5",
    "true",
    "",
    " ",
    # Strings.
    '{"model":"\\ud83d"}',
    '{"model":"a\\ud83d\\ude00b"}',
    '{"model":"\\ud83d\\ud83d\\ude00\\ude00"}',
    '{"model":"\\ud83dx\\u0041"}',
    '{"model":"\\ude00\\ud83d"}',
    '{"model":"\\u0000\\u001f\\/\\b\\f\\n\\r\\t\\"\\\\"}',
    '{"model":"\\u12"}',
    '{"model":"\\x41"}',
    '{"model":"\\u00e9\\u00E9"}',
    '{"model":"a\nb"}',
    '{"model":"tab\there"}',
    '{"model":"\xc3\xa9"}',
    '{"model":"\xff"}',
    '{"model":"\xe2\x82x"}',
    '{"model":"\xed\xa0\x80"}',
    '{"model":"\xf0\x9f\x98\x80 \xf0\x9f\x98"}',
    '{"model":"\xc0\x80\xf8\x88\x80\x80\x80"}',
    '{"prompt":"cut \\ud83d","model":"tiny"}',
    '{"prompt":"\xff\xfe","model":"tiny"}',
    '{"\xff":1,"model":"tiny"}',
    '{"model":"\\',
    '{"model":"tiny\\"',
    '{"model":"tiny',
    # Numbers and literals.
    '{"x":1e999,"y":-0,"z":1E+2,"model":"tiny"}',
    '{"x":123456789012345678901234567890,"model":"tiny"}',
    '{"x":01,"model":"tiny"}',
    '{"x":.5,"model":"tiny"}',
    '{"x":NaN,"model":"tiny"}',
    '{"x":nul,"model":"tiny"}',
    # What comes after the object, and before it.
    '{"model":"tiny"}{"model":"other"}',
    '{"model":"tiny"} garbage',
    '{"model":"tiny"}]}}}"',
    "\xef\xbb\xbf" + '{"model":"tiny"}',
    '\x00{"model":"tiny"}',
    # Damage.
    '{"model":"tiny"',
    '{"model":"tiny",}',
    '{"model":"tiny" "x":1}',
    '{"model" "tiny"}',
    '{"model":,"x":1}',
    '{"x":[},"model":"tiny"}',
    '{"x":{]},"model":"tiny"}',
    "{'model':'tiny'}",
    '{model:"tiny"}',
    '{"x":1,,"model":"tiny"}',
    # Whitespace.
    '{"model"\n\n:\t\r "tiny"}',
    '{\x0b"model":"tiny"}',
    '{"model":\xa0"tiny"}',
    # Streams and their usage.
    '{"model":"tiny","stream":true}',
    '{"model":"tiny","STREAM":true}',
    '{"model":"tiny","\xc5\xbftream":true}',
    '{"model":"tiny","\\u017Ftream":true,"stream_option\xc5\xbf":{"include_usage":true}}',
    '{"model":"tiny","stream":true,"stream":null}',
    '{"model":"tiny","stream":true,"stream":false}',
    '{"model":"tiny","stream":false,"Stream":true}',
    '{"model":"tiny","stream":1}',
    '{"model":"tiny","stream":true,"stream_options":{}}',
    '{"model":"tiny","stream":true,"stream_options":null}',
    '{"model":"tiny","stream":true,"stream_options":{"include_usage":true}}',
    '{"model":"tiny","stream":true,"stream_options":{"INCLUDE_USAGE":true}}',
    '{"model":"tiny","stream":true,"stream_options":{"include_usage":false}}',
    '{"model":"tiny","stream":true,"stream_options":{"include_usage":null}}',
    '{"model":"tiny","stream":true,"stream_options":{"include_usage":1}}',
    '{"model":"tiny","stream":true,"stream_options":{"x":{"include_usage":true}}}',
    '{"model":"tiny","stream":true,"stream_options":{"include_usage":true},"stream_options":{}}',
    '{"model":"tiny","stream":true,"stream_options":{"include_usage":true},"stream_options":null}',
    '{"model":"tiny","stream":true,"stream_options":null,"stream_options":{"include_usage":true}}',
    '{"model":"tiny","stream":true,"stream_options":{"include_usage":true},"stream_options":{"include_usage":false}}',
    '{"stream":true,"stream_options":[],"model":"tiny"}',
    '{"model":"tiny","stream":true} {"stream":false}',
]
_RUNS: list[Runs] = [
    [('{"model":"tiny","x":', 1), ("[", depth), ("]", depth), ("}", 1)] for depth in (999, 1001, 9998, 9999, 10000)
]
_RUNS += [
    [('{"model":"tiny","x":', 1), ('{"a":', 2000), ("1", 1), ("}", 2001)],
    [('{"x":', 1), ("[", 5000), ("]", 5000), (',"model":"tiny"}', 1)],
    [('{"x":', 1), ("[[]],"[0:4], 1), (',"":[[]]', 3000), (',"model":"tiny"}', 1)],
    [('{"a":0', 1), (',"":"\\\\"', 4000), (',"model":"tiny"}', 1)],
    [('{"a":"', 1), ('\\"', 9000), ('","model":"tiny"}', 1)],
    [('{"a":"', 1), ("\\\\", 20000), ('","model":"tiny"}', 1)],
    [('{"a":"', 1), ("\\\\", 20001), ('\\"model\\":","model":"tiny"}', 1)],
    [('{"model"', 1), (" ", 20000), (":", 1), ("\n", 20000), ('"tiny"}', 1)],
    [('{"a":"', 1), ("x", 16384 - 8), ('","model":"tiny"}', 1)],
    [('{"a":"', 1), ("x", 16384 - 12), ('","\\u006dodel":"tiny"}', 1)],
    [('{"model":"tiny","x":[', 1), ("[]," * 10, 1200), ("0]}", 1)],
    [('{"model":"tiny","x":"', 1), ('",":"', 1), ('","":"', 3000), ('"}', 1)],
    [('{"model":"tiny"', 1), (',"model":"a"', 60), ("}", 1)],
]

# ---- JSON bodies that nobody thought of

_KEYS = ["model", "Model", "MODEL", "\\u006dodel", "mod\\u0045l", "stream", "STREAM", "\xc5\xbftream", "stream_options",
         "Stream_Options", "prompt", "x", "", "mode", "\\ud83d", "\xff", "include_usage"]  # fmt: skip
_STRINGS = ["tiny", "other", "", "\\ud83d", "\\ud83d\\ude00", "\\u0041", "\\n\\t\\/", '\\"', "\\\\", '\\\\\\"model\\":',
            "\xff", "\xe2\x82", "\xc3\xa9", "model", "a b", "[{", "}]", ","]  # fmt: skip
_SCALARS = ["0", "-1.5e-3", "1e999", "true", "false", "null", "[]", "{}"]
_SPACES = ["", "", "", "", " ", "\n", "\t \r\n"]


def _value(rng: random.Random, depth: int) -> str:
    kind = rng.random()
    if kind < 0.45:
        return '"' + "".join(rng.choices(_STRINGS, k=rng.choice((1, 1, 1, 2, 3)))) + '"'
    if kind < 0.75 or depth > 3:
        return rng.choice(_SCALARS)
    if kind < 0.85:
        return "[" + ",".join(_value(rng, depth + 1) for _ in range(rng.randrange(4))) + "]"
    return _object(rng, depth + 1)


def _object(rng: random.Random, depth: int) -> str:
    members = []
    for _ in range(rng.randrange(5)):
        key = rng.choice(_KEYS)
        value = _value(rng, depth)
        if "odel" in key.lower() and rng.random() < 0.7:
            value = '"' + rng.choice(_STRINGS) + '"'
        elif key.lower().endswith("tream") and rng.random() < 0.8:
            value = rng.choice(("true", "true", "false", "null"))
        elif "ption" in key and rng.random() < 0.8:
            value = rng.choice(
                ('{"include_usage":true}', '{"include_usage":false}', "{}", "null", _object(rng, depth + 1))
            )
        space = rng.choices(_SPACES, k=4)
        members.append(f'{space[0]}"{key}"{space[1]}:{space[2]}{value}{space[3]}')
    return "{" + ",".join(members) + "}"


def _damaged(rng: random.Random, text: str) -> str:
    position = rng.randrange(len(text) + 1)
    kind = rng.randrange(5)
    if kind == 0:
        return text[:position]
    if kind == 1:
        return text[:position] + text[position + 1 :]
    if kind == 2:
        return text[:position] + rng.choice('"\\{}[],:\x00 ') + text[position:]
    if kind == 3:
        return text + rng.choice(("}", "]", '{"model":"other"}', " x", '"'))
    return text[:position] + rng.choice('"\\{}[],:e') + text[position + 1 :]


def generated(seed: int, count: int) -> Iterator[Question]:
    """Yield bodies that are valid, odd or damaged; the same ones for the same seed."""
    rng = random.Random(seed)
    for _ in range(count):
        text = _object(rng, 0)
        if rng.random() < 0.3:
            text = _damaged(rng, text)
        yield Question("json", [(text, 1)])


def json_bodies() -> Iterator[Question]:
    """Yield the bodies whose answers are recorded."""
    for text in _PLAIN:
        yield Question("json", [(text, 1)])
    for runs in _RUNS:
        yield Question("json", runs)
    yield from generated(1, 800)
