"""Request bodies and model names on which readers differ, and what Go reads in them (`go_oracle`).

`scripts/record_go.py` asks Go and writes the answers to `tests/common/wire/go_answers.jsonl`, so that the tests need no
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

import zstandard

Runs = list[tuple[str, int]]

SOURCE = Path(__file__).parent / "go_oracle"
ANSWERS = Path(__file__).parents[2] / "common" / "wire" / "go_answers.jsonl"


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
    [('{"x":[[]]', 1), (',"":[[]]', 3000), (',"model":"tiny"}', 1)],
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


# ---- zstd

_SKIPPED = b"\x50\x2a\x4d\x18\x05\x00\x00\x00hello"


def zstd_bodies() -> Iterator[Question]:
    """Yield compressed bodies."""
    tiny, other = b'{"model":"tiny"}', b'{"model":"other"}'
    checked = _frame(tiny, checksum=True)
    for body in (
        _frame(tiny),
        _frame(tiny[:5]) + _frame(tiny[5:]),
        _SKIPPED + _frame(tiny),
        _frame(tiny[:5]) + _SKIPPED + _SKIPPED + _frame(tiny[5:]),
        _frame(b"") * 50 + _frame(tiny),
        _frame(tiny) + _frame(other),
        _frame(b'{"x":1,') + _frame(b'"model":"tiny"}') + b"garbage",
        checked,
        checked[:-1] + bytes([checked[-1] ^ 1]),
        checked[:-2],
        _frame(tiny, known_size=False),
        _frame(b'{"x":"' + b"a" * 300_000 + b'","model":"tiny"}'),
        _frame(b'{"x":"' + b"a" * 300_000 + b'","model":"tiny"}', window_log=23, known_size=False),
        _frame(b'{"x":"' + b"a" * 300_000 + b'","model":"tiny"}', window_log=24, known_size=False),
        _frame(b'{"x":"' + b"a" * (9 << 20) + b'","model":"tiny"}'),
        _frame(b'{"x":"' + b"a" * (9 << 20) + b'","model":"tiny"}', known_size=False),
        tiny,
        b"",
        b"\x28\xb5\x2f\xfd",
        _frame(tiny)[:-3],
        b"garbage" + _frame(tiny),
    ):
        yield Question("zstd", [(body.decode("latin-1"), 1)])


def _frame(data: bytes, *, checksum: bool = False, known_size: bool = True, window_log: int = 0) -> bytes:
    parameters = zstandard.ZstdCompressionParameters(
        write_checksum=checksum, write_content_size=known_size, window_log=window_log
    )
    compressor = zstandard.ZstdCompressor(compression_params=parameters)
    if known_size:
        return compressor.compress(data)
    stream = compressor.compressobj()
    return stream.compress(data) + stream.flush()


# ---- forms

_TYPE = "multipart/form-data; boundary=x"
_MODEL = 'Content-Disposition: form-data; name="model"'
_FILE = 'Content-Disposition: form-data; name="file"; filename="a.wav"\r\nContent-Type: audio/wav'


def form(*parts: tuple[str, str], boundary: str = "x", end: str = "--\r\n") -> str:
    """Return a multipart body made of (headers, content) pairs."""
    body = "".join(f"--{boundary}\r\n{headers}\r\n\r\n{content}\r\n" for headers, content in parts)
    return f"{body}--{boundary}{end}"


def forms() -> Iterator[Question]:
    """Yield forms, of which parsers read some in different ways."""
    model, file = (_MODEL, "tiny"), (_FILE, "RIFF")
    secret = (_MODEL, "secret")
    plain = form(file, model)
    hidden = form(secret).removesuffix("--x--\r\n")
    bodies = [
        plain,
        form(model, file),
        form(file, model, end="--"),
        form(file, model, end="-- \t\r\n"),
        form(file, model, end="--garbage"),
        form(file, model, end="--\r\nepilogue" + form(secret)),
        form(file),
        form(model, secret),
        form(secret, model),
        "preamble\r\n" + plain,
        "preamble\n" + plain,
        "\r\n" + plain,
        plain.replace("\r\n", "\n"),
        plain.replace("--x\r\n", "--x \t\r\n"),
        plain.replace("--x\r\n", "--x \t\r\n", 1),
        form((_FILE, "RIFF\r\n--x \r\n" + hidden.removeprefix("--x\r\n") + "--x"), model),
        form((_FILE, f"RIFF\n{hidden}"), model),
        form((_FILE, f"RIFF\r\n--x-y\r\n{_MODEL}\r\n\r\nsecret"), model),
        form((_FILE, f"--x\r\n{_MODEL}\r\n\r\nsecret"), model),
        form(("Content-Disposition: form-data; name=y", f"--x\r\n{_MODEL}\r\n\r\nsecret"), model),
        "--x--y\r\n" + form(secret),
        "--x--\r\n" + form(secret),
        "--xy\r\n" + form(secret),
        form(file, ("X-A: b\n" + _MODEL, "secret"), model),
        form(file, ("X-A: b\n\n" + _MODEL, "secret"), model),
        form(file, ("X-A: b\r" + _MODEL, "secret"), model),
        form(file, (_MODEL + "\r\nContent-Disposition: form-data; name=other", "secret"), model),
        form(file, ("Content-Disposition: form-data; name=other\r\n" + _MODEL, "secret"), model),
        form(file, ("Content-Disposition : form-data; name=model", "secret"), model),
        form(file, (" " + _MODEL, "secret"), model),
        form(file, ("Content-Disposition: form-data;\r\n name=model", "secret"), model),
        form(file, ('Content-Disposition: form-data; name="mo\r\n del"', "secret"), model),
        form(file, (_MODEL + "\r\nContent-Transfer-Encoding: quoted-printable", "=73ecret")),
        form(file, (_MODEL + "\r\nContent-Transfer-Encoding: base64", "c2VjcmV0")),
        form(file, (_MODEL + "\r\nContent-Transfer-Encoding: 8bit", "tiny")),
        form(file, (_MODEL + "\r\nContent-Type: text/plain; charset=utf-16", "tiny")),
        form(file, (_MODEL + "\r\nContent-Length: 4", "tiny")),
        form(file, (_MODEL + "\r\nContent-Length: 2", "tiny")),
        form(file, (_MODEL, " tiny\r\n")),
        form(file, (_MODEL, "")),
        form(file, (_MODEL, "t\xff\xe2\x82y")),
        form(file, (_MODEL, "x" * 2000)),
    ]
    bodies += [
        form(file, (f"Content-Disposition: {disposition}", "secret"), model)
        for disposition in (
            "form-data; name*=utf-8''model", "form-data; name*=utf-8''mo%64el", "form-data; name*0=mo; name*1=del",
            'form-data; name="mo\\del"', 'form-data; name="\\model"', "form-data; name=model", "form-data; NAME=model",
            'FORM-DATA; name="model"', 'form-data ; name="model"', 'form-data;name="model"', 'form-data; name = "model"',
            'form-data; name="model";', 'form-data; name="model"; name="x"', 'form-data; name="x"; name="model"',
            'form-data; name="model"; x', 'form-data; x; name="model"', 'attachment; name="model"', "form-data",
            'form-data; name="model"; filename="x"', 'form-data; name="model"; filename=""', 'form-data; name="Model"',
            'form-data; name="model"; filename*=x', "form-data; name=\"model\"; filename*=utf-8''x", 'form-data; name=""',
            'form-data; name="m%6fdel"', 'form-data; name="model"; filename="a\\"b"', "form-data; name='model'",
            'form-data; name="mod\xc3\xa9l"; filename="\xc3\xa9"', 'form-data; filename="; name=model"',
            'form-data; filename="a\\"; name=\\"model"', 'form-data; name="x"; filename="a\\"b"; name="model"',
        )
    ]  # fmt: skip
    for body in bodies:
        yield Question("form", [(body, 1)], _TYPE)
    for content_type in (
        'multipart/form-data; boundary="x"', "Multipart/Form-Data;boundary=x", "multipart/form-data ; boundary=x;",
        "multipart/form-data; boundary=x; boundary=y", "multipart/form-data; boundary*=utf-8''x", "multipart/form-data",
        "multipart/mixed; boundary=x", "application/json", "", "multipart/form-data; boundary=x; charset=utf-8",
        "multipart/form-data; boundary=x, y", " multipart/form-data; boundary=x ", "multipart/form-data; boundary= x",
        'multipart/form-data; boundary="\\x"', "multipart/form-data; BOUNDARY=x", "multipart/form-data; boundary=",
        "\xa0multipart/form-data; boundary=x", "multipart/form-data; charset; boundary=x",
    ):  # fmt: skip
        yield Question("form", [(plain, 1)], content_type)
    for query in (
        "model=secret",
        "model=",
        "x=1",
        "m%6fdel=secret",
        "a;model=secret",
        "x=%zz",
        "model",
        "Model=secret",
    ):
        yield Question("form", [(plain, 1)], _TYPE, query)
    dashes = "-" * 20
    yield Question("form", [(form(file, model, boundary=dashes), 1)], f"multipart/form-data; boundary={dashes}")
    yield Question("form", [(form(*[(_MODEL.replace("model", f"f{i}"), "") for i in range(90)], model), 1)], _TYPE)
    yield Question("form", [(form((_FILE, "RIFF" + "\r\n" * 9000), model), 1)], _TYPE)
    nested = 'Content-Disposition: form-data; name="file"\r\nContent-Type: multipart/mixed; boundary=y'
    yield Question("form", [(form((nested, "--y\r\n" + _MODEL + "\r\n\r\nsecret\r\n--y--"), model), 1)], _TYPE)


# ---- names

NAMES = [
    "tiny", "TINY", "Tiny:Latest", "tiny:latest", "tiny:LATEST", "library/tiny", "LIBRARY/tiny", "library/tiny:latest",
    "registry.ollama.ai/library/tiny", "Registry.Ollama.AI/library/tiny", "https://registry.ollama.ai/library/tiny",
    "http://registry.ollama.ai/library/tiny:latest", "ftp://registry.ollama.ai/library/TINY", "://registry.ollama.ai/library/tiny",
    "https://tiny", "https://library/tiny", "https+insecure://registry.ollama.ai/library/tiny", "a://b://c/library/tiny",
    "tiny:1b", "tiny:1B", "tiny:", ":latest", "", " tiny", "tiny ", "tiny\n", "/tiny", "tiny/", "//tiny", "library//tiny", "/",
    ":", "a:b:c", "tiny:latest:latest", "tiny/latest:x", "tiny:x/latest", "ns/tiny", "NS/tiny", "ns/tiny:latest", "ns/library/tiny",
    "host/ns/tiny", "HOST/ns/tiny:latest", "host:5000/ns/tiny", "host:5000/tiny", "10.244.0.1:5000/library/tiny",
    "10.244.0.1:5000/library/tiny:latest", "registry.ollama.ai/tiny", "registry.ollama.ai//tiny", "a/b/c/d", "a/b/c/d/e",
    "registry.ollama.ai:443/library/tiny", "tiny@sha256:abc", "tiny@sha256", "tiny:latest@sha256:abc", "hf.co/ns/tiny:Q4_K_M",
    "hf.co/NS/Tiny:q4_k_m", "_tiny", "-tiny", ".tiny", "ti.ny", "n.s/tiny", "tin\u00e9", "TIN\u00c9", "tin\u212a", "tink", "ti\u017fny",
    "tisny", "\u0130iny", "iiny", "\ufffd", "!MISSING!", "!MISSING!/tiny", "tiny:!MISSING!", "tiny:cloud", "tiny:local",
    "x" * 80, "X" * 80, "x" * 81, "registry.ollama.ai/library/tiny/", "library/tiny:latest/", "\u00df", "ss", "tiny:\u212a", "tiny:k",
]  # fmt: skip


# ---- the recording


def record(program: Path) -> None:
    """Ask the oracle about everything, and write its answers."""
    questions = [*json_bodies(), *zstd_bodies(), *forms()]
    answers = map(answered, ask(program, map(asked, questions)))
    lines = [[*question, *answer] for question, answer in zip(questions, answers, strict=True)]
    names = ask(program, [{"kind": "names", "names": NAMES}])[0]["names"]
    lines += [["name", name["name"], name["display"], name["valid"], name["sameAs"]] for name in names]
    ANSWERS.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines))


def recorded() -> tuple[list[tuple[Question, Answer]], list[list[Any]]]:
    """Return the recorded bodies with Go's answers, and the recorded names: name, display, valid, same as."""
    lines = [json.loads(line) for line in ANSWERS.read_text().splitlines()]
    bodies = [
        (Question(kind, [(text, count) for text, count in runs], content_type, query), Answer(*answer))
        for kind, runs, content_type, query, *answer in (line for line in lines if line[0] != "name")
    ]
    return bodies, [line[1:] for line in lines if line[0] == "name"]
