"""The content of all files that the sidecar reads while it runs, and the reader that notices changes."""

from __future__ import annotations

import hashlib
import secrets
from pathlib import Path
from typing import NamedTuple

import msgspec

from llmendpoint_common.contracts.sidecar import SidecarConfig
from llmendpoint_common.wire.decoding import UNREADABLE
from llmendpoint_sidecar.config import parse_config
from llmendpoint_sidecar.inputs.certificate import CertificateFiles, CertificatePair
from llmendpoint_sidecar.inputs.keys import KeyTable, ReadKeys, read_keys
from llmendpoint_sidecar.inputs.reports import Report, ReportLog, error
from llmendpoint_sidecar.settings import Settings


class Inputs(msgspec.Struct, frozen=True):
    """What the files contain. `keys` is None if no key is required, and `certificate` is None without TLS.

    `config_digest` is the SHA-256 of the configuration file, in hexadecimal digits. It is empty without a file.
    """

    config: SidecarConfig = SidecarConfig()
    keys: KeyTable | None = None
    certificate: CertificatePair | None = None
    config_digest: str = ""


class _Content(NamedTuple):
    """The files as they were read. A string says why one could not be read, and None means that it is not set."""

    config: bytes | str | None
    keys: ReadKeys | str | None
    certificate: CertificatePair | str | None


class InputFiles:
    """Reads the files that the settings name. The methods block, so a running event loop calls them in a thread."""

    def __init__(self, settings: Settings) -> None:
        self._config = settings.config
        self._folders = tuple(settings.keys)
        self._certificate: CertificateFiles | None = None
        if settings.tls_cert is not None and settings.tls_key is not None:
            self._certificate = CertificateFiles(settings.tls_cert, settings.tls_key)
        self._pepper = secrets.token_bytes(32)
        self._reports = ReportLog()
        self._last: _Content | None = None

    def __bool__(self) -> bool:
        """Return whether there is a file to read."""
        return bool(self._config or self._folders or self._certificate)

    def load(self, config: SidecarConfig) -> Inputs:
        """Return the first inputs, with a configuration that has already been read.

        Raises OSError if keys or certificate cannot be used.
        """
        keys = read_keys(self._folders, self._pepper) if self._folders else None
        certificate = None
        if self._certificate is not None:
            certificate = self._certificate.read()
            self._certificate.check(certificate)
        if keys is not None:
            self._reports.update(keys.reports)
        return Inputs(config, keys.table if keys else None, certificate, self._digest_of(config))

    def reload(self, current: Inputs) -> Inputs:
        """Return the inputs in the files now: `current` itself if nothing has changed.

        Of a file that is missing or invalid, the current content stays in use. A change is taken when two readings
        agree, so that files that belong together are not mixed while they are replaced.
        """
        content = self._read()
        if content == self._last or content != self._read():
            return current
        self._last = content
        reports: list[Report] = []
        config, digest = self._parsed_config(content.config, current, reports)
        new = Inputs(
            config,
            _checked_keys(content.keys, current.keys, reports),
            self._checked_certificate(content.certificate, current.certificate, reports),
            digest,
        )
        self._reports.update(reports)
        return current if new == current else new

    def changes(self, old: Inputs, new: Inputs) -> str:
        """Return the names of the inputs that differ, for the log."""
        names = []
        if (new.config, new.config_digest) != (old.config, old.config_digest):
            names.append(str(self._config))
        if new.keys != old.keys and new.keys is not None:
            names.append(f"the API keys of {len(set(new.keys.tenants.values()))} tenants")
        if new.certificate != old.certificate and self._certificate is not None:
            names.append(f"the TLS certificate {self._certificate.chain}")
        return " and ".join(names)

    def _read(self) -> _Content:
        return _Content(
            None if self._config is None else _bytes_of(self._config), self._read_keys(), self._read_certificate()
        )

    def _read_keys(self) -> ReadKeys | str | None:
        try:
            return read_keys(self._folders, self._pepper) if self._folders else None
        except OSError as fault:
            return _reason(fault)

    def _read_certificate(self) -> CertificatePair | str | None:
        try:
            return None if self._certificate is None else self._certificate.read()
        except OSError as fault:
            return _reason(fault)

    def _digest_of(self, config: SidecarConfig) -> str:
        """Return the digest of the configuration file if it has this content. Otherwise it is read again soon."""
        content = None if self._config is None else _bytes_of(self._config)
        if not isinstance(content, bytes):
            return ""
        try:
            return hashlib.sha256(content).hexdigest() if parse_config(content) == config else ""
        except UNREADABLE:
            return ""

    def _parsed_config(
        self, content: bytes | str | None, current: Inputs, reports: list[Report]
    ) -> tuple[SidecarConfig, str]:
        """Return the configuration and the digest of its file."""
        if content is None:
            return current.config, current.config_digest
        if isinstance(content, bytes):
            try:
                return parse_config(content), hashlib.sha256(content).hexdigest()
            except UNREADABLE as fault:
                content = f"{self._config} is invalid: {fault}"
        reports.append(error(f"the previous configuration stays in use: {content}"))
        return current.config, current.config_digest

    def _checked_certificate(
        self, content: CertificatePair | str | None, current: CertificatePair | None, reports: list[Report]
    ) -> CertificatePair | None:
        if self._certificate is None or content == current:
            return current
        if isinstance(content, CertificatePair):
            try:
                self._certificate.check(content)
            except OSError as fault:
                content = str(fault)
            else:
                return content
        reports.append(error(f"cannot reload the TLS certificate; the old one stays in use: {content}"))
        return current


def _checked_keys(content: ReadKeys | str | None, current: KeyTable | None, reports: list[Report]) -> KeyTable | None:
    if isinstance(content, ReadKeys):
        reports += content.reports
        return content.table
    if content is not None:
        reports.append(error(f"cannot reload API keys; the old ones stay in use: {content}"))
    return current


def _bytes_of(path: Path) -> bytes | str:
    try:
        return path.read_bytes()
    except OSError as fault:
        return _reason(fault)


def _reason(fault: OSError) -> str:
    return f"{fault.filename}: {fault.strerror}" if fault.strerror else str(fault)
