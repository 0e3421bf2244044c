"""Reads API keys from folders: the name of a file is the tenant, and its content is the key.

Mistakes in key files are reported, because a key that is never accepted looks like a client's mistake. A report names
the tenant and the folder, and never the key.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from llmendpoint_sidecar.inputs.reports import Report, error, warning

_MAX_KEY_BYTES = 4096
_UTF8_MARK = b"\xef\xbb\xbf"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
#: Bytes that a header field cannot contain (RFC 9110, 5.5). A tab is allowed.
_CONTROLS = frozenset((*range(0x20), 0x7F)) - {0x09}
_PRINTABLE = frozenset(range(0x21, 0x7F))


class KeyTable(msgspec.Struct, frozen=True):
    """Tenants by the digest of their API key. The digest is keyed (HMAC-SHA-256) with `pepper`, a random secret.

    Keys are not stored, so that neither a memory dump nor the duration of a look-up reveals them.
    """

    pepper: bytes
    tenants: dict[bytes, str] = {}

    def tenant_of(self, key: bytes) -> str | None:
        """Return the tenant of a key, or None if the key is unknown."""
        return self.tenants.get(digest(self.pepper, key))

    def __repr__(self) -> str:
        return f"KeyTable of {len(self.tenants)} keys"


class ReadKeys(NamedTuple):
    """The keys in all folders, and reports about the files."""

    table: KeyTable
    reports: tuple[Report, ...]


def read_keys(folders: Sequence[Path], pepper: bytes) -> ReadKeys:
    """Read all keys. A missing folder counts as empty. Raises OSError if a folder or a file cannot be read."""
    found: dict[bytes, dict[str, None]] = {}
    reports: list[Report] = []
    for folder in folders:
        for path in _files(folder):
            key, report = _read_key(path)
            if report is not None:
                reports.append(report)
            if key:
                found.setdefault(digest(pepper, key), {})[path.name] = None
    reports += _shared(found)
    table = KeyTable(pepper, {key: next(iter(tenants)) for key, tenants in found.items() if len(tenants) == 1})
    if not table.tenants:
        places = " and ".join(map(str, folders))
        reports.append(error(f"{places}: there is no usable API key, so every request is refused"))
    return ReadKeys(table, tuple(reports))


def digest(pepper: bytes, key: bytes) -> bytes:
    """Return the keyed hash of a key."""
    return hmac.digest(pepper, key, hashlib.sha256)


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        # A mounted Secret keeps its versions in folders that begin with two dots.
        if not path.name.startswith(".") and path.is_file():
            yield path


def _read_key(path: Path) -> tuple[bytes, Report | None]:
    """Return the key in a file, or no bytes if it cannot be used, and a report if something is wrong or unusual."""
    with path.open("rb") as file:
        content = file.read(len(_UTF8_MARK) + _MAX_KEY_BYTES + 64)
    # Editors and shells on Windows put a mark before the text. No client sends it.
    key = content.removeprefix(_UTF8_MARK).strip()
    subject = f"the API key of tenant {path.name!a} in {path.parent}"
    if fault := _fault(path.name, content, key):
        return b"", error(f"{subject} is not used: {fault}")
    if oddity := _oddity(key):
        return key, warning(f"{subject} {oddity}")
    return key, None


def _fault(tenant: str, content: bytes, key: bytes) -> str:
    """Return the reason for which no client could use a key, or an empty string."""
    faults = (
        (content.startswith(_UTF16_MARKS), "the file is in UTF-16; save it as UTF-8"),
        (not key, "it is empty"),
        (len(key) > _MAX_KEY_BYTES, f"it is longer than {_MAX_KEY_BYTES} bytes"),
        (b"\n" in key or b"\r" in key, "it has several lines; a file contains one key"),
        (not _CONTROLS.isdisjoint(key), "it contains a control character, which a header field cannot contain"),
        (not _is_text(tenant), "the name of the file is not UTF-8"),
    )
    return next((sentence for applies, sentence in faults if applies), "")


def _oddity(key: bytes) -> str:
    """Return a warning about a key that only some clients can send as it is, or an empty string."""
    if b" " in key or b"\t" in key:
        return "contains spaces, which some clients change"
    if not _PRINTABLE.issuperset(key):
        return "contains characters outside ASCII, which many clients cannot send"
    return ""


def _shared(found: dict[bytes, dict[str, None]]) -> Iterator[Report]:
    """Yield a report for each key of several tenants: it does not say which of them sent a request."""
    for tenants in found.values():
        if len(tenants) > 1:
            names = " and ".join(f"{name!a}" for name in tenants)
            yield error(f"the tenants {names} have the same API key; it is not used for any of them")


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
