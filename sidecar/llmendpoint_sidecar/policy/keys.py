"""Who asks: API keys from mounted Secrets, one file a tenant, taken anew when they change."""

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
    """The keys of all tenants. A file's name is the tenant, its content the key; several folders allow rotation.

    Keys are kept and looked up as a keyed hash under a secret of this process, so that neither memory nor the time
    of a look-up tells anything of them.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = tuple(folders)
        self._pepper = secrets.token_bytes(32)
        self._tenants: dict[bytes, str] = {}
        self.read()

    def __len__(self) -> int:
        return len(self._tenants)

    def tenant_of(self, fields: Mapping[bytes, bytes]) -> str | None:
        """Return the tenant of `Authorization: Bearer KEY` or `x-api-key: KEY`; None where there is none."""
        authorization = fields.get(b"authorization", b"")
        if authorization[:7].lower() == _BEARER:
            key = authorization[7:].strip()
        else:
            key = fields.get(b"x-api-key", b"").strip()
        return self._tenants.get(self._digest(key)) if key else None

    def read(self) -> bool:
        """Read every key; return whether anything changed. A folder that is not there has no keys."""
        found: dict[bytes, str] = {}
        for folder in self.folders:
            for path in sorted(folder.iterdir()) if folder.is_dir() else ():
                # A mounted Secret keeps its versions in folders that begin with two dots.
                if path.name.startswith(".") or not path.is_file():
                    continue
                key = path.read_bytes()[: _MAX_KEY_BYTES + 1].strip()
                if not key or len(key) > _MAX_KEY_BYTES:
                    log.error("the key of tenant %s is empty or too long: not used", path.name)
                    continue
                found[self._digest(key)] = path.name
        changed, self._tenants = found != self._tenants, found
        return changed

    async def watch(self) -> None:
        """Take changed keys within seconds; a folder that cannot be read keeps the old ones."""
        while True:
            await asyncio.sleep(_INTERVAL_SECONDS)
            try:
                if await asyncio.to_thread(self.read):
                    log.info("took new keys of %d tenants", len(set(self._tenants.values())))
            except OSError as error:
                log.error("keys stay as they were: %s", error.strerror)

    def _digest(self, key: bytes) -> bytes:
        return hmac.digest(self._pepper, key, hashlib.sha256)
