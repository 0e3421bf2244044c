"""What clients are told while Ollama is hung, and which of their requests are concerned."""

from __future__ import annotations

from http import HTTPStatus

import msgspec

from llmendpoint_common.contracts.sidecar import Outcome, RefusalReason
from llmendpoint_sidecar.policy.refusals import Refusal


class HungNotice(msgspec.Struct, frozen=True):
    """Ollama is hung, or suspected to be, for some models, by the labels of the meter, or for all (None).

    `sentence` is the message for clients. `retry_after` is in seconds. `ends_waiting`: requests that were forwarded end
    too.
    """

    models: frozenset[str] | None
    sentence: str
    retry_after: int
    ends_waiting: bool = True

    def concerns(self, label: str) -> bool:
        """Return whether requests for a model are refused."""
        return self.models is None or label in self.models

    def refusal(self) -> Refusal:
        """Return the refusal of a new request."""
        return Refusal(
            HTTPStatus.SERVICE_UNAVAILABLE,
            self.sentence,
            Outcome.UPSTREAM_UNREACHABLE,
            self.retry_after,
            RefusalReason.OLLAMA_HUNG,
        )

    def end(self) -> Refusal:
        """Return the error for a request that Ollama has received, and may have run in part."""
        return Refusal(
            HTTPStatus.GATEWAY_TIMEOUT,
            self.sentence,
            Outcome.UPSTREAM_TIMEOUT,
            self.retry_after,
            RefusalReason.OLLAMA_HUNG,
        )
