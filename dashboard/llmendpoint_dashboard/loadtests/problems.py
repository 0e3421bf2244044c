"""The error of a request that asks for a load test."""

from __future__ import annotations

from http import HTTPStatus


class RefusedError(Exception):
    """A request that cannot be done, with the status of the answer. `field` is the field of the body that is wrong."""

    def __init__(self, sentence: str, field: str = "", status: HTTPStatus = HTTPStatus.UNPROCESSABLE_ENTITY) -> None:
        super().__init__(sentence)
        self.field = field
        self.status = status
