"""Request bodies that are received completely before anything is forwarded, because admission depends on their model.

Ollama decodes the complete object before it starts, so holding a body does not delay the response. The memory for held
bodies is bounded per request and for all requests together.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import NamedTuple

from llmendpoint_common.contracts.sidecar import Operation, Outcome
from llmendpoint_common.process.errors import RequestBodyError
from llmendpoint_common.wire.http1 import heads
from llmendpoint_common.wire.http1.request_reader import RequestHead
from llmendpoint_common.wire.request_body import MAX_REQUEST_BODY_BYTES, read_request_body
from llmendpoint_common.wire.usage_filter import ask_for_usage
from llmendpoint_sidecar.policy.admission import Admission, Ticket
from llmendpoint_sidecar.policy.refusals import Refusal

_TOO_LARGE = Refusal(
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    f"the body is larger than {MAX_REQUEST_BODY_BYTES // 1024 // 1024} MiB",
    Outcome.REJECTED,
)
_TOO_MANY = Refusal(
    HTTPStatus.SERVICE_UNAVAILABLE,
    "server busy, please try again: too many large requests are being read",
    Outcome.REJECTED_QUEUE,
    retry_after=1,
)
#: If one of these occurs twice, the upstream and the proxy could interpret the body differently.
_SINGLE = (b"content-type", b"content-encoding")


class AdmittedBody(NamedTuple):
    """A body that is forwarded.

    `asks_for_usage`: the proxy changed the body to request usage, so the usage has to be removed from the response.
    """

    data: bytes
    asks_for_usage: bool


class HeldBody:
    """The body of one request. `release` must be called at the end, so that the memory counts as free."""

    __slots__ = ("_admission", "_pieces", "_size", "_ticket")

    def __init__(self, admission: Admission, ticket: Ticket) -> None:
        self._admission = admission
        self._ticket = ticket
        self._pieces: list[bytes] = []
        self._size = 0

    def add(self, data: bytes) -> Refusal | None:
        """Add a piece. Returns a refusal if the body becomes too large."""
        if self._size + len(data) > MAX_REQUEST_BODY_BYTES:
            return _TOO_LARGE
        if not self._admission.hold(len(data)):
            return _TOO_MANY
        self._size += len(data)
        self._pieces.append(data)
        return None

    def release(self) -> None:
        """Discard the body."""
        self._admission.let_go(self._size)
        self._size = 0
        self._pieces.clear()

    def judge(self, request: RequestHead) -> AdmittedBody | Refusal:
        """Check the complete body by its model, and release it. An admitted body is returned unchanged.

        If usage has to be injected and the client does not request it, the returned body is changed to request it.
        """
        data = b"".join(self._pieces)
        self.release()
        fields = request.fields
        # Ollama reads a form on one route and JSON on all others, regardless of the Content-Type.
        is_form = self._ticket.operation is Operation.OPENAI_TRANSCRIPTIONS
        try:
            if any(heads.count(request.head, name) > 1 for name in _SINGLE):
                raise RequestBodyError("Content-Type and Content-Encoding must not occur twice")
            coding = fields.get(b"content-encoding", b"")
            injects = self._admission.injects_usage(self._ticket)
            facts = read_request_body(data, fields.get(b"content-type", b""), coding, form=is_form, usage=injects)
        except RequestBodyError as error:
            return Refusal(HTTPStatus.BAD_REQUEST, str(error), Outcome.REJECTED)
        refused = self._admission.at_body(self._ticket, facts.model)
        if refused is not None:
            return refused
        changed = ask_for_usage(data, facts)
        if changed is not None:
            return AdmittedBody(changed, asks_for_usage=True)
        return AdmittedBody(data, asks_for_usage=False)
