"""Reads the TLS certificate of the proxy and its private key."""

from __future__ import annotations

import contextlib
import os
import ssl
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec


class CertificatePair(msgspec.Struct, frozen=True):
    """A certificate chain and its private key, both PEM."""

    chain: bytes
    key: bytes

    def __repr__(self) -> str:
        return "CertificatePair"

    def load_into(self, context: ssl.SSLContext) -> None:
        """Let new connections of a TLS context use this certificate. Raises ssl.SSLError if the pair is not valid."""
        with _file_of(self.chain) as chain, _file_of(self.key) as key:
            # Without a function for the password, OpenSSL asks for it on the terminal.
            context.load_cert_chain(chain, key, password=_no_password)


class CertificateFiles(NamedTuple):
    """The files of a certificate chain and of its private key."""

    chain: Path
    key: Path

    def read(self) -> CertificatePair:
        """Return the content of the files, which may be invalid. Raises OSError if a file cannot be read."""
        return CertificatePair(self.chain.read_bytes(), self.key.read_bytes())

    def check(self, pair: CertificatePair) -> None:
        """Raise OSError, which names the files, if a pair cannot be used."""
        try:
            pair.load_into(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
        except (ssl.SSLError, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            raise OSError(f"{self.chain} and {self.key} are not a certificate and its key: {reason}") from None


def _no_password() -> str:
    raise ValueError("the key is encrypted, and the sidecar has no password for it")


@contextlib.contextmanager
def _file_of(content: bytes) -> Iterator[str]:
    """Yield the path of a file with `content`, because OpenSSL reads certificates only from files.

    On Linux, the file is in memory, so that a key never reaches a disk and the file system may be read-only.
    """
    in_memory = hasattr(os, "memfd_create")
    with os.fdopen(os.memfd_create("certificate"), "wb") if in_memory else tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        yield f"/proc/self/fd/{file.fileno()}" if in_memory else file.name
