"""API keys of tenants, from mounted Secrets with one file per tenant. Changed keys are reloaded."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path

log = logging.getLogger(__name__)

_INTERVAL_SECONDS = 2.0
_MAX_KEY_BYTES = 4096
_BEARER = b"bearer "


class Keyring:
    """The keys of all tenants. The name of a file is the tenant, and its content is the key. Two folders allow
    rotation.

    Keys are stored as a keyed hash (HMAC) with a secret of this process, so that neither a memory dump nor the duration
    of a look-up reveals them.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = tuple(folders)
        self._pepper = secrets.token_bytes(32)
        self._tenants: dict[bytes, str] = {}
        self.read()

    def __len__(self) -> int:
        return len(self._tenants)

    def tenant_of(self, fields: Mapping[bytes, bytes]) -> str | None:
        """Return the tenant of `Authorization: Bearer KEY` or `x-api-key: KEY`.

        None if the key is unknown or missing.
        """
        authorization = fields.get(b"authorization", b"")
        if authorization[:7].lower() == _BEARER:
            key = authorization[7:].strip()
        else:
            key = fields.get(b"x-api-key", b"").strip()
        return self._tenants.get(self._digest(key)) if key else None

    def read(self) -> bool:
        """Read all keys, and return whether any key has changed. A missing folder counts as empty."""
        found: dict[bytes, str] = {}
        for folder in self.folders:
            for path in sorted(folder.iterdir()) if folder.is_dir() else ():
                # A mounted Secret keeps its versions in folders that begin with two dots.
                if path.name.startswith(".") or not path.is_file():
                    continue
                key = path.read_bytes()[: _MAX_KEY_BYTES + 1].strip()
                if not key or len(key) > _MAX_KEY_BYTES:
                    log.error("the API key of tenant %s is not used: it is empty or longer than 4096 bytes", path.name)
                    continue
                found[self._digest(key)] = path.name
        changed, self._tenants = found != self._tenants, found
        return changed

    async def watch(self) -> None:
        """Reload changed keys within seconds. If a folder cannot be read, the old keys stay in use."""
        while True:
            await asyncio.sleep(_INTERVAL_SECONDS)
            try:
                if await asyncio.to_thread(self.read):
                    log.info("reloaded the API keys of %d tenants", len(set(self._tenants.values())))
            except OSError as error:
                log.error("cannot reload API keys; the old ones stay in use: %s", error.strerror)

    def _digest(self, key: bytes) -> bytes:
        return hmac.digest(self._pepper, key, hashlib.sha256)
