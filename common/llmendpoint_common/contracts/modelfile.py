"""Parser of Ollama's Modelfiles (parser/parser.go): text in, fields of `POST /api/create` out.

The grammar is Ollama's: an instruction per line, in any case; comments after `#`; a value is the rest of the line, or
a text in one or three double quotes that can have several lines. What Ollama ignores or overwrites is an error here,
because its author expects an effect: parameters that it no longer has, empty texts, and an instruction that is
given twice.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from llmendpoint_common.process.errors import ModelfileError

_INSTRUCTION = re.compile(r"([A-Za-z]+)[ \t]+(.*)", re.DOTALL)
_PARAMETER = re.compile(r"([A-Za-z0-9_]+)[ \t]+(.*)", re.DOTALL)
_ROLES = ("system", "user", "assistant")
_ONCE = ("template", "system", "renderer", "parser", "requires")
_VERSION = re.compile(r"v?[0-9]+(\.[0-9]+){0,2}(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?")
#: A name of a model, with an optional registry and tag. Ollama accepts nothing else in a name.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._:/-]*")
_FILE = re.compile(r"(\.{0,2}/|~|\\).*|.*\.(gguf|bin|safetensors)", re.IGNORECASE)
_FLOAT = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
#: Go's strconv.ParseBool.
_TRUE, _FALSE = ("1", "t", "T", "TRUE", "true", "True"), ("0", "f", "F", "FALSE", "false", "False")


class Message(msgspec.Struct, frozen=True):
    """A message of the conversation with which every chat begins."""

    role: str
    content: str


class Modelfile(msgspec.Struct, frozen=True):
    """A parsed Modelfile. `base` is the argument of FROM, or empty if the Modelfile has no FROM."""

    base: str = ""
    template: str | None = None
    system: str | None = None
    renderer: str | None = None
    parser: str | None = None
    requires: str | None = None
    license: tuple[str, ...] = ()
    messages: tuple[Message, ...] = ()
    parameters: Mapping[str, Any] = {}

    def create_fields(self) -> dict[str, Any]:
        """Return the fields of `POST /api/create` except those for the source of the model."""
        fields = msgspec.to_builtins(self)
        del fields["base"]
        return {name: value for name, value in fields.items() if value}


class _Line(NamedTuple):
    """An instruction with the number of its first line, its name in lower case, and its text."""

    number: int
    name: str
    text: str


@functools.lru_cache(maxsize=64)
def parse_modelfile(text: str) -> Modelfile:
    """Return a parsed Modelfile. Raises ModelfileError, whose message names the line."""
    fields: dict[str, Any] = {"parameters": {}, "license": [], "messages": []}
    seen: dict[str, int] = {}
    for line in _instructions(text):
        if line.name == "from":
            _note_once(seen, line)
            fields["base"] = _base(line)
        elif line.name in _ONCE:
            _note_once(seen, line)
            _need_text(line)
            fields[line.name] = _required_version(line) if line.name == "requires" else line.text
        elif line.name == "license":
            _need_text(line)
            fields["license"].append(line.text)
        elif line.name == "message":
            fields["messages"].append(msgspec.to_builtins(_message(line)))
        elif line.name == "parameter":
            _add_parameter(fields["parameters"], line)
        else:
            raise _unknown(line)
    return msgspec.convert(fields, Modelfile)


def _instructions(text: str) -> Iterator[_Line]:
    """Yield the instructions. A value that begins with a quote continues until a line that ends with the same quote."""
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    position = 0
    while position < len(lines):
        number, line = position + 1, lines[position].lstrip(" \t")
        position += 1
        if not line or line.startswith("#"):
            continue
        found = _INSTRUCTION.fullmatch(line)
        if found is None:
            name = line.split(maxsplit=1)[0]
            raise ModelfileError(number, f"{_short(name)} is not an instruction with a value. {_KNOWN}")
        name, value = found[1].lower(), found[2]
        prefix = ""
        if name in ("parameter", "message"):
            parts = _PARAMETER.fullmatch(value)
            if parts is None:
                raise ModelfileError(number, f"{name.upper()} needs a name and a value")
            prefix, value = f"{parts[1]} ", parts[2]
        while (unquoted := _unquoted(value.strip())) is None:
            if position == len(lines):
                raise ModelfileError(number, f"the quoted text of {name.upper()} does not end")
            value += "\n" + lines[position]
            position += 1
        yield _Line(number, name, prefix + unquoted)


def _unquoted(text: str) -> str | None:
    """Return a value without its quotes, or None if the text in quotes continues in the next line."""
    for quote in ('"""', '"'):
        if text.startswith(quote):
            complete = len(text) >= 2 * len(quote) and text.endswith(quote)
            return text[len(quote) : -len(quote)] if complete else None
    return text


def _note_once(seen: dict[str, int], line: _Line) -> None:
    if line.name in seen:
        raise ModelfileError(line.number, f"{line.name.upper()} is already set in line {seen[line.name]}; remove one")
    seen[line.name] = line.number


def _need_text(line: _Line) -> None:
    if not line.text:
        raise ModelfileError(line.number, f"{line.name.upper()} is empty, which has no effect in Ollama; remove it")


def _base(line: _Line) -> str:
    if _FILE.fullmatch(line.text):
        advice = "FROM must name a model; for a file, remove FROM and set source.gguf.path"
        raise ModelfileError(line.number, f"{_short(line.text)} is a file. {advice}")
    if not _NAME.fullmatch(line.text) or ".." in line.text:
        raise ModelfileError(line.number, f"{_short(line.text)} is not the name of a model")
    return line.text


def _required_version(line: _Line) -> str:
    if not _VERSION.fullmatch(line.text):
        raise ModelfileError(line.number, "REQUIRES must be a version of Ollama such as 0.14.0")
    return line.text.removeprefix("v")


def _message(line: _Line) -> Message:
    role, _, content = line.text.partition(" ")
    if role not in _ROLES:
        raise ModelfileError(line.number, f"the role of MESSAGE must be {', '.join(_ROLES[:-1])} or {_ROLES[-1]}")
    return Message(role, content)


def _add_parameter(parameters: dict[str, Any], line: _Line) -> None:
    name, _, text = line.text.partition(" ")
    if name == "stop":
        parameters.setdefault(name, []).append(text)
        return
    if name in parameters:
        raise ModelfileError(line.number, f"the parameter {name} is set twice; remove one")
    if name in _WITHOUT_EFFECT:
        raise ModelfileError(line.number, f"the parameter {name} no longer has an effect in Ollama; remove it")
    read = _PARAMETERS.get(name)
    if read is None:
        known = ", ".join(sorted([*_PARAMETERS, "stop"]))
        raise ModelfileError(line.number, f"{_short(name)} is not a parameter. Parameters are {known}")
    value = read(text)
    if value is None:
        raise ModelfileError(line.number, f"{_short(text)} is not a value of the parameter {name}: {_KINDS[read]}")
    parameters[name] = value


def _unknown(line: _Line) -> ModelfileError:
    if line.name == "adapter":
        return ModelfileError(line.number, "ADAPTER is not supported; merge the adapter into a GGUF file")
    return ModelfileError(line.number, f"{_short(line.name.upper())} is not an instruction. {_KNOWN}")


def _integer(text: str) -> int | None:
    return int(text) if _INTEGER.fullmatch(text) else None


def _number(text: str) -> float | None:
    return float(text) if _FLOAT.fullmatch(text) else None


def _boolean(text: str) -> bool | None:
    return True if text in _TRUE else False if text in _FALSE else None


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "…")


_KNOWN = "Instructions are FROM, PARAMETER, TEMPLATE, SYSTEM, LICENSE, MESSAGE, RENDERER, PARSER and REQUIRES"
_Reader = Callable[[str], Any]
_KINDS: Final[Mapping[_Reader, str]] = {
    _integer: "write a whole number",
    _number: "write a number",
    _boolean: "write true or false",
}
#: Parameters of Ollama (api/types.go, Options) and the types of their values. `stop` can be given several times.
_PARAMETERS: Final[Mapping[str, _Reader]] = {
    **dict.fromkeys(
        ("num_ctx", "num_batch", "num_gpu", "main_gpu", "num_thread", "num_keep", "seed", "num_predict", "top_k",
         "repeat_last_n"),
        _integer,
    ),
    **dict.fromkeys(
        ("top_p", "min_p", "typical_p", "temperature", "repeat_penalty", "presence_penalty", "frequency_penalty"),
        _number,
    ),
    "use_mmap": _boolean,
}  # fmt: skip
#: Parameters that Ollama's client reads and drops.
_WITHOUT_EFFECT = frozenset(
    ("penalize_newline", "low_vram", "f16_kv", "logits_all", "vocab_only", "use_mlock", "mirostat", "mirostat_tau",
     "mirostat_eta")
)  # fmt: skip
