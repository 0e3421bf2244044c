"""Turns what a server says in an error into one line without secrets: no key, and nothing of a prompt."""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

MAX_DETAIL = 200
#: Bytes of an error that are kept.
MAX_WORDS_BYTES = 4096

_KEY = "[key]"
_PROMPT = "[prompt]"
#: A part of a secret or of a prompt is found if it is at least twice as long as this, less one.
_KEY_STEP = 4
_PROMPT_STEP = 12
_SPACE = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_TAG = re.compile(r"<(script|style)\b.*?</\1\s*>|<[^>]*>", re.DOTALL | re.IGNORECASE)
#: Texts that look like keys, also if they are not ours: a proxy may quote its own.
_KEYS = re.compile(
    r"(?i:\b(?:bearer|basic)\s+)[\w.~+/=*-]{6,}"
    r"|\b(?:sk|pk|rk|hf|gsk|xai|nvapi|ghp|glpat|key|token)[-_][\w*.-]{6,}"
    r"|\beyJ[\w-]{6,}\.[\w-]+(?:\.[\w-]*)?"
)
#: Fields of an error object that contain its message, in the order of preference.
_MESSAGES = ("message", "error", "detail", "msg", "title", "reason", "code", "type")
_MAX_ITEMS = 3

_decode = msgspec.json.Decoder().decode


class Redactor:
    """Removes the secrets of a run from texts. `secrets` are keys, and values of headers."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets = sorted({secret for secret in secrets if len(secret) >= _KEY_STEP}, key=len, reverse=True)

    def line(self, text: str, prompts: Iterable[str] = ()) -> str:
        """Return a text as one line of at most MAX_DETAIL characters, without secrets and without prompts."""
        line = _SPACE.sub(" ", text).strip()[: 4 * MAX_DETAIL]
        for secret in self._secrets:
            line = _without(line, secret, _KEY_STEP, _KEY)
        line = _KEYS.sub(_KEY, line)
        for prompt in prompts:
            line = _without(line, _SPACE.sub(" ", prompt).strip(), _PROMPT_STEP, _PROMPT)
        return line if len(line) <= MAX_DETAIL else line[: MAX_DETAIL - 1] + "…"


def words_of(body: bytes) -> str:
    """Return the message in the body of an error: JSON in one of the usual shapes, HTML, or plain text."""
    try:
        return _message(_decode(body))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        text = body.decode("utf-8", "replace")
    return _TAG.sub(" ", text) if "<" in text else text


def _message(value: object, depth: int = 0) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if depth < 4 and isinstance(value, dict):
        # FastAPI repeats the request in the field `input` of its errors, so only known fields are read.
        messages = (_message(value.get(name), depth + 1) for name in _MESSAGES)
        where = value.get("loc")
        prefix = ".".join(map(str, where)) + ": " if isinstance(where, list) else ""
        return prefix + next(filter(None, messages), "")
    if depth < 4 and isinstance(value, list):
        return "; ".join(filter(None, (_message(item, depth + 1) for item in value[:_MAX_ITEMS])))
    return ""


def _without(line: str, secret: str, step: int, replacement: str) -> str:
    """Return a line without a secret, and without parts of it that are at least twice as long as `step`, less one.

    Each such part contains a piece of `step` characters that begins at a multiple of `step` in the line.
    """
    if not secret:
        return line
    if len(secret) < 2 * step:
        return line.replace(secret, replacement)
    parts, start, at = [], 0, 0
    while at + step <= len(line):
        if line[at : at + step] not in secret:
            at += step
            continue
        begin, end = at, at + step
        while begin > start and line[begin - 1 : end] in secret:
            begin -= 1
        while end < len(line) and line[begin : end + 1] in secret:
            end += 1
        if end - begin < 2 * step - 1 and end - begin < len(secret):
            at += step
            continue
        parts += [line[start:begin], replacement]
        start = at = end
    return "".join((*parts, line[start:]))
