"""A tiny model for a real Ollama whose answers are known: each token has one successor.

The attention and the feed-forward layers are zero, so the next token depends only on the last one. The embedding of a
token is a random vector of ±1, and the output row of a token is the sum of the embeddings of its predecessors. The right
successor is therefore at least 30 logits ahead of every other token, at any temperature.

The template ends the prompt with one of three tokens, and each of them begins a script: `TEXT`, a tool call, or
`THOUGHT` before the text.
"""

from __future__ import annotations

import hashlib
import itertools
import random
import struct
from collections.abc import Iterable, Sequence
from typing import Any

WIDTH, HIDDEN, CONTEXT = 64, 32, 4096
_SAY, _CALL, _REASON = "<|say|>", "<|call|>", "<|reason|>"
_THINK, _END_THINK = "<think>", "</think>"

_WORDS = [
    "Lisbon",
    "is",
    "the",
    "capital",
    "of",
    "Portugal",
    "and",
    "lies",
    "on",
    "seven",
    "hills",
    "near",
    "a",
    "wide",
    "river",
]
_THOUGHTS = ("Hm", " they", " ask", " me", " about", " towns")
_TOOL_CALL = ('{"name": ', '"get_weather"', ', "parameters": ', '{"city": ', '"Lisbon"}', "}")

TEXT = " ".join(_WORDS)
THOUGHT = "".join(_THOUGHTS)
TOOL_CALL = ("get_weather", {"city": "Lisbon"})
TEXT_TOKENS = len(_WORDS) + 1  # and the token that ends the text

_UNKNOWN, _CONTROL, _NORMAL, _USER_DEFINED, _BYTE = 2, 3, 1, 4, 6
_UINT32, _FLOAT32, _STRING, _ARRAY, _INT32 = 4, 6, 8, 9, 5
_END = 2

TEMPLATE = (
    "{{- $answered := false }}"
    '{{- range .Messages }}{{ if eq .Role "tool" }}{{ $answered = true }}{{ end }}'
    "{{ .Role }}: {{ if .Thinking }}<think>{{ .Thinking }}</think>{{ end }}{{ .Content }}"
    '{{ range .ToolCalls }}{"name": "{{ .Function.Name }}", "parameters": {{ .Function.Arguments }}}{{ end }}\n'
    "{{ end }}"
    f"{{{{ if and .Tools (not $answered) }}}}{_CALL}{{{{ else if and .IsThinkSet .Think }}}}{_REASON}{{{{ else }}}}{_SAY}{{{{ end }}}}"
)


def scripted_model() -> bytes:
    """Return the model as a GGUF file of about 0.4 MB. It is always the same file."""
    tokens = _vocabulary()
    index = {text: number for number, (text, _) in enumerate(tokens)}
    codes = _codes(len(tokens))
    output = [[0.0] * WIDTH for _ in tokens]
    for before, after in _transitions():
        row = output[_END if after is None else index[after]]
        for column, value in enumerate(codes[index[before]]):
            row[column] += value
    return _file(_metadata(tokens), _tensors(codes, output))


def digest_of(model: bytes) -> str:
    """Return the digest by which Ollama names a blob."""
    return f"sha256:{hashlib.sha256(model).hexdigest()}"


def _vocabulary() -> list[tuple[str, int]]:
    """Return texts and kinds: control tokens, all bytes, the scripts, and letters for prompts."""
    tokens = [("<unk>", _UNKNOWN), ("<s>", _CONTROL), ("</s>", _CONTROL)]
    tokens += [(f"<0x{byte:02X}>", _BYTE) for byte in range(256)]
    tokens += [(text, _USER_DEFINED) for text in (_SAY, _CALL, _REASON, _THINK, _END_THINK)]
    tokens += [(_piece(text), _NORMAL) for text in (*_text(), *_THOUGHTS, *_TOOL_CALL)]
    known = {text for text, _ in tokens}
    return tokens + [(letter, _NORMAL) for letter in "▁abcdefghijklmnopqrstuvwxyz.,?!" if letter not in known]


def _text() -> list[str]:
    return [_WORDS[0], *(f" {word}" for word in _WORDS[1:])]


def _piece(text: str) -> str:
    return text.replace(" ", "▁")


def _transitions() -> Iterable[tuple[str, str | None]]:
    """Yield each token of the scripts with its successor. None ends the answer."""
    text = [_piece(word) for word in _text()]
    for script in (
        [_SAY, *text, None],
        [_CALL, *map(_piece, _TOOL_CALL), None],
        [_REASON, _THINK, *map(_piece, _THOUGHTS), _END_THINK],
    ):
        yield from ((str(before), after) for before, after in itertools.pairwise(script))
    yield _END_THINK, text[0]


def _codes(count: int) -> list[list[float]]:
    source = random.Random(7)
    return [[source.choice((-1.0, 1.0)) for _ in range(WIDTH)] for _ in range(count)]


def _metadata(tokens: Sequence[tuple[str, int]]) -> dict[str, Any]:
    return {
        "general.architecture": "llama",
        "general.name": "scripted",
        "general.file_type": 0,
        "llama.context_length": CONTEXT,
        "llama.embedding_length": WIDTH,
        "llama.block_count": 1,
        "llama.feed_forward_length": HIDDEN,
        "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 4,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.dimension_count": WIDTH // 4,
        "llama.vocab_size": len(tokens),
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [text for text, _ in tokens],
        "tokenizer.ggml.scores": [float(-number) for number in range(len(tokens))],
        "tokenizer.ggml.token_type": [kind for _, kind in tokens],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": _END,
        "tokenizer.ggml.unknown_token_id": 0,
    }


def _tensors(codes: list[list[float]], output: list[list[float]]) -> dict[str, tuple[tuple[int, ...], list[float]]]:
    """Return shapes (fastest dimension first) and values by name."""
    square, ones = ((WIDTH, WIDTH), [0.0] * WIDTH * WIDTH), ((WIDTH,), [1.0] * WIDTH)
    tensors: dict[str, tuple[tuple[int, ...], list[float]]] = {
        "token_embd.weight": ((WIDTH, len(codes)), [value for row in codes for value in row]),
        "output.weight": ((WIDTH, len(output)), [value for row in output for value in row]),
        "output_norm.weight": ones,
        "blk.0.attn_norm.weight": ones,
        "blk.0.ffn_norm.weight": ones,
        "blk.0.ffn_gate.weight": ((WIDTH, HIDDEN), [0.0] * WIDTH * HIDDEN),
        "blk.0.ffn_up.weight": ((WIDTH, HIDDEN), [0.0] * WIDTH * HIDDEN),
        "blk.0.ffn_down.weight": ((HIDDEN, WIDTH), [0.0] * WIDTH * HIDDEN),
    }
    return tensors | {f"blk.0.attn_{part}.weight": square for part in ("q", "k", "v", "output")}


def _file(metadata: dict[str, Any], tensors: dict[str, tuple[tuple[int, ...], list[float]]]) -> bytes:
    """Return a GGUF file (version 3): metadata, descriptions of the tensors, and their values, aligned to 32 bytes."""
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    head += b"".join(_string(name) + _value(value) for name, value in metadata.items())
    data = b""
    for name, (shape, values) in tensors.items():
        head += _string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 0, len(data))
        data += struct.pack(f"<{len(values)}f", *values)
        data += bytes(-len(data) % 32)
    return head + bytes(-len(head) % 32) + data


def _string(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack("<Q", len(encoded)) + encoded


def _value(value: Any) -> bytes:
    match value:
        case str():
            return struct.pack("<I", _STRING) + _string(value)
        case float():
            return struct.pack("<If", _FLOAT32, value)
        case int():
            return struct.pack("<II", _UINT32, value)
        case [str(), *_]:
            return struct.pack("<IIQ", _ARRAY, _STRING, len(value)) + b"".join(map(_string, value))
        case [float(), *_]:
            return struct.pack(f"<IIQ{len(value)}f", _ARRAY, _FLOAT32, len(value), *value)
        case [int(), *_]:
            return struct.pack(f"<IIQ{len(value)}i", _ARRAY, _INT32, len(value), *value)
    raise TypeError(f"{value!r} cannot be stored in a GGUF file")
