"""TLS for clients: TLS 1.2 or newer, HTTP/1.1. New connections use a renewed certificate."""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path

log = logging.getLogger(__name__)

_INTERVAL_SECONDS = 5.0


class Certificate:
    """A certificate file, its key file, and the TLS context that uses them. Raises OSError if they cannot be loaded."""

    def __init__(self, cert: Path, key: Path) -> None:
        self._cert = cert
        self._key = key
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.context.set_alpn_protocols(["http/1.1"])
        self._seen = self._content()
        self._load()

    async def watch(self) -> None:
        """Reload a renewed certificate within seconds. If it cannot be loaded, the old one stays in use."""
        while True:
            await asyncio.sleep(_INTERVAL_SECONDS)
            await asyncio.to_thread(self.reload)

    def reload(self) -> bool:
        """Load both files if they have changed. Returns whether a new certificate is in use."""
        try:
            content = self._content()
            if content == self._seen:
                return False
            self._load()
        except OSError as error:
            log.error("cannot reload the TLS certificate; the old one stays in use: %s", error)
            return False
        self._seen = content
        log.info("reloaded the TLS certificate %s", self._cert)
        return True

    def _content(self) -> tuple[bytes, bytes]:
        return self._cert.read_bytes(), self._key.read_bytes()

    def _load(self) -> None:
        try:
            self.context.load_cert_chain(self._cert, self._key)
        except ssl.SSLError as error:
            raise OSError(f"{self._cert} and {self._key} are not a certificate and its key: {error.reason}") from None
