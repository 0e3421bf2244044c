"""Finds the tenant of a request by its API key."""

from __future__ import annotations

from collections.abc import Mapping

from llmendpoint_sidecar.inputs.keys import KeyTable

_BEARER = b"bearer "


class Keyring:
    """The keys of all tenants. Without a table, no key is required."""

    def __init__(self, table: KeyTable | None) -> None:
        self._table = table

    def __len__(self) -> int:
        return 0 if self._table is None else len(self._table.tenants)

    @property
    def required(self) -> bool:
        """Whether a request needs a key. It never changes, and holds although no key may be known."""
        return self._table is not None

    def use(self, table: KeyTable | None) -> None:
        """Replace all keys."""
        self._table = table

    def tenant_of(self, fields: Mapping[bytes, bytes]) -> str | None:
        """Return the tenant of `Authorization: Bearer KEY` or `x-api-key: KEY`.

        None if the key is unknown or missing.
        """
        authorization = fields.get(b"authorization", b"")
        if authorization[:7].lower() == _BEARER:
            key = authorization[7:].strip()
        else:
            key = fields.get(b"x-api-key", b"").strip()
        return self._table.tenant_of(key) if key and self._table is not None else None
