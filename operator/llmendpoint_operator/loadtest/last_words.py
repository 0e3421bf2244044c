"""Puts the last words of a load pod into terms of the cluster: a file in the pod is an entry of a ConfigMap."""

from __future__ import annotations

import re

from llmendpoint_operator.loadtest.resources.volumes import QUESTIONS_FOLDER, TRACE_FOLDER

_MAX_LENGTH = 900
_QUESTIONS = re.compile(rf"{QUESTIONS_FOLDER}/(?P<source>[^/\s:]+)/(?P<entry>[^/\s:]+)")
_TRACE = re.compile(rf"{TRACE_FOLDER}/(?P<entry>[^/\s:]+)")
#: `llmendpoint_loadjob: FILE:LINE: REASON`, as the load generator refuses a file. The line may be absent.
_REFUSAL = re.compile(
    r"^(?:llmendpoint_loadjob: )?(?P<file>/[^\s:]+):(?:(?P<line>[0-9]+):)? (?P<reason>.+)\Z", re.MULTILINE
)


def plain(words: str) -> str:
    """Return the end of the words, or a sentence about the ConfigMap to correct if they refuse a file of it."""
    words = words.strip()
    refusal = _REFUSAL.search(words)
    entry = _entry(refusal["file"]) if refusal is not None else ""
    if refusal is None or not entry:
        return words[-_MAX_LENGTH:]
    line = f", line {refusal['line']}" if refusal["line"] else ""
    reason = _QUESTIONS.sub(lambda match: _entry(match[0]), refusal["reason"][:_MAX_LENGTH])
    return f"{entry}{line}: {reason.rstrip('.')}. Correct it, and create another LoadTest."


def _entry(file: str) -> str:
    """Return the ConfigMap and the entry that a file of the pod is, or nothing for other files."""
    question, trace = _QUESTIONS.fullmatch(file), _TRACE.fullmatch(file)
    if question is not None:
        return f"ConfigMap {question['source']}, entry {question['entry']}"
    return f"The trace, entry {trace['entry']} of spec.dataset.trace.configMapKeyRef" if trace is not None else ""
