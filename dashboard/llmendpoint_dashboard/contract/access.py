"""Sessions, and the body of every error."""

from __future__ import annotations

from llmendpoint_dashboard.contract.sections import Value


class Session(Value, frozen=True, kw_only=True):
    """Answer of `GET /api/v1/session`: the token for the header `X-CSRF-Token` of every POST. Sets a cookie."""

    csrf: str


class Problem(Value, frozen=True, kw_only=True):
    """Body of every error of the API (status 400 and above): one sentence, which can be shown as it is.

    `field` is the field of the request's body that is wrong, or empty.
    """

    error: str
    field: str = ""
