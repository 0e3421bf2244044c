"""Decides whether a request is forwarded. It checks host, API key, model management, quotas, model, a hung Ollama and
queue length.

Most checks need only the head. If a limit depends on the model, the request is held until its body is complete. This
does not delay the response, because Ollama also reads the complete body before it starts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus

from llmendpoint_common.contracts.sidecar import (
    IncludeUsage,
    ModelManagement,
    Operation,
    Outcome,
    RefusalReason,
    SidecarConfig,
    TenantLimits,
)
from llmendpoint_common.process.hosts import HostRule, host_rule
from llmendpoint_common.wire.request_body import RequestFacts
from llmendpoint_common.wire.routes import USAGE_ON_REQUEST, RouteClass, route_class
from llmendpoint_sidecar.budget import DEFAULT_BUDGET, Budget
from llmendpoint_sidecar.meter.exchange import Spent
from llmendpoint_sidecar.meter.in_flight import InFlight
from llmendpoint_sidecar.policy.held_memory import HeldMemory
from llmendpoint_sidecar.policy.hung import HungNotice
from llmendpoint_sidecar.policy.keys import Keyring
from llmendpoint_sidecar.policy.limits import Allowance, prompt_estimate, retry_after, tokens_used
from llmendpoint_sidecar.policy.reading_queue import ReadingQueue
from llmendpoint_sidecar.policy.refusals import Refusal

#: Methods that run no model.
_NOT_COUNTED = frozenset({b"GET", b"HEAD", b"OPTIONS"})
#: Retry-After if the queue is full. It is a guess, because the time until there is room is not known.
_QUEUE_SECONDS = 5.0
_NO_MANAGEMENT = Refusal(
    HTTPStatus.FORBIDDEN,
    "clients are not allowed to manage models; they are declared in spec.models of the LLMEndpoint",
    Outcome.REJECTED_MANAGEMENT,
    reason=RefusalReason.MANAGEMENT,
)
_UNKNOWN_ROUTE = _NO_MANAGEMENT._replace(
    sentence="this route is not known to run a model or only to read, so it counts as model management, which is "
    "forbidden here"
)
# Looking up a member in its class costs more than the comparison.
_INFERENCE, _MANAGEMENT = RouteClass.INFERENCE, RouteClass.MANAGEMENT


class Ticket:
    """The admission of a request: its tenant, and the allowance to which it is charged until it ends.

    `kind` is what the request does, or None if that depends on its body.
    """

    __slots__ = ("_estimate", "allowance", "kind", "operation", "tenant")

    def __init__(
        self, tenant: str, operation: Operation, kind: RouteClass | None, allowance: Allowance | None = None
    ) -> None:
        self.tenant = tenant
        self.operation = operation
        self.kind = kind
        self.allowance = allowance
        self._estimate = 0

    @property
    def counts_tokens(self) -> bool:
        """Whether `charge` and `close` require what the request uses."""
        return self.allowance is not None and self.allowance.counts_tokens

    def charge(self, estimate: int) -> None:
        """Charge the estimate of a complete prompt. `close` corrects it."""
        self._estimate = estimate
        if self.allowance is not None:
            self.allowance.charge(estimate)

    def close(self, spent: Spent | None) -> None:
        """Correct the charge and end the use of the allowance. Only the first call has an effect.

        `spent` may be None if tokens are not counted, or if the request was not charged.
        """
        allowance, self.allowance = self.allowance, None
        if allowance is None:
            return
        allowance.leave()
        if spent is not None:
            allowance.charge(tokens_used(self._estimate, spent) - self._estimate)


class Admission:
    """Checks requests against the configuration, which may change at any time."""

    def __init__(
        self,
        in_flight: InFlight,
        keyring: Keyring,
        clock: Callable[[], float],
        budget: Budget = DEFAULT_BUDGET,
        context_of: Callable[[str], int | None] = lambda model: None,
    ) -> None:
        """`context_of` returns the context length of a model that is in memory, in tokens."""
        self.keyring = keyring
        self.held_memory = HeldMemory(budget, fair=keyring.required)
        self.reading_queue = ReadingQueue(budget.decoders, clock)
        self._context_of = context_of
        self._in_flight = in_flight
        self._clock = clock
        self._config = SidecarConfig()
        self._allowances: dict[str, Allowance] = {}
        self._loopback = False
        self.open = True
        #: The hosts that are served, or None if every host is.
        self.hosts: HostRule | None = None
        #: Not None while Ollama is hung.
        self.hung: HungNotice | None = None
        self.configure(self._config)

    def listen_on_loopback(self) -> None:
        """Serve only names of this machine unless the configuration has other hosts: against DNS rebinding."""
        self._loopback = True
        self.configure(self._config)

    def configure(self, config: SidecarConfig) -> None:
        """Apply a new configuration. A tenant whose limits have not changed keeps its allowance."""
        limits: dict[str, TenantLimits] = {tenant.name: tenant for tenant in config.tenants}
        kept = {
            name: allowance
            for name, allowance in self._allowances.items()
            if allowance.limits == limits.get(name, config.default_tenant)
        }
        self._config, self._limits, self._allowances = config, limits, kept
        self.hosts = host_rule(config.allowed_hosts, loopback=self._loopback)
        self._forbids_management = config.model_management is ModelManagement.FORBIDDEN
        self._injects = config.include_usage is IncludeUsage.INJECT
        #: True if nothing besides `hosts` is configured, so that the data path skips admission for an allowed host.
        self.open = not (
            self.hung is not None
            or self.keyring.required
            or self._forbids_management
            or self._injects
            or config.max_waiting
            or config.tenants
            or config.default_tenant != TenantLimits()
        )

    def note_hung(self, notice: HungNotice | None) -> None:
        """Refuse the requests that a notice concerns, until it is None."""
        self.hung = notice
        self.configure(self._config)

    def at_head(self, method: bytes, operation: Operation, fields: Mapping[bytes, bytes]) -> Ticket | Refusal:
        """Check a request by its head. `fields` has lower-case names."""
        tenant = self.tenant_of(method, fields)
        if self.hosts is not None and not self.hosts[fields.get(b"host", b"")]:
            sentence = self._host_advice()
            return Refusal(
                HTTPStatus.FORBIDDEN, sentence, Outcome.REJECTED, reason=RefusalReason.HOST, tenant=tenant or ""
            )
        if tenant is None:
            sentence = "an API key is required: send it as `Authorization: Bearer KEY` or `x-api-key: KEY`"
            return Refusal(HTTPStatus.UNAUTHORIZED, sentence, Outcome.REJECTED_AUTH, reason=RefusalReason.KEY)
        kind = route_class(method, operation)
        if kind is _MANAGEMENT and self._forbids_management:
            refusal = _UNKNOWN_ROUTE if operation is Operation.OTHER else _NO_MANAGEMENT
            return refusal._replace(tenant=tenant)
        if method in _NOT_COUNTED:
            return Ticket(tenant, operation, kind)
        allowance = self._allowance(tenant)
        spent = allowance.quota(self._clock())
        if spent is not None:
            limit, seconds, reason = spent
            sentence = f"the limit of {limit} has been reached; try again in {seconds} s"
            return Refusal(HTTPStatus.TOO_MANY_REQUESTS, sentence, Outcome.REJECTED_QUOTA, seconds, reason, tenant)
        allowance.enter()
        return Ticket(tenant, operation, kind, allowance)

    def tenant_of(self, method: bytes, fields: Mapping[bytes, bytes]) -> str | None:
        """Return the tenant of a request: empty if no key is required, None if its key is missing or unknown."""
        # A browser's preflight cannot carry a key, and its response contains no secret.
        if not self.keyring.required or method == b"OPTIONS":
            return ""
        return self.keyring.tenant_of(fields)

    def needs_body(self, ticket: Ticket) -> bool:
        """Return whether admission depends on the body, so that it has to be complete before anything is sent."""
        allowance = ticket.allowance
        if allowance is None or (ticket.kind is not _INFERENCE and ticket.kind is not None):
            return False
        return (
            self.hung is not None
            or self._config.max_waiting is not None
            or allowance.models is not None
            or allowance.counts_tokens
            or (ticket.kind is None and self._forbids_management)
            or self.injects_usage(ticket)
        )

    def injects_usage(self, ticket: Ticket) -> bool:
        """Return whether the proxy requests the token usage for this request if the client does not."""
        return self._injects and ticket.operation in USAGE_ON_REQUEST

    def at_body(self, ticket: Ticket, facts: RequestFacts, size: int) -> Refusal | None:
        """Check a request by its body, and charge its prompt. `size` is the size of the decoded body in bytes."""
        allowance, model = ticket.allowance, facts.model
        is_unknown = ticket.kind is None
        if is_unknown and not model and self._forbids_management:
            return _UNKNOWN_ROUTE
        if is_unknown and not facts.names_model:
            return None
        models = None if allowance is None else allowance.models
        # Ollama's own routes refuse a model that is not a name. It is not known what an unknown route does with it.
        if models is not None and (model or is_unknown) and not models.allow(model):
            sentence = f"this model is not allowed; allowed models: {models}"
            return Refusal(HTTPStatus.FORBIDDEN, sentence, Outcome.REJECTED_MODEL, reason=RefusalReason.MODEL)
        if self.hung is not None and self.hung.concerns(self._in_flight.label(model)):
            return self.hung.refusal()
        limit = self._config.max_waiting
        if limit is not None and not self._in_flight.has_room(model, limit):
            sentence = f"server busy, please try again: {limit} requests are already waiting for this model"
            return Refusal(
                HTTPStatus.SERVICE_UNAVAILABLE,
                sentence,
                Outcome.REJECTED_QUEUE,
                retry_after(_QUEUE_SECONDS),
                RefusalReason.MAX_WAITING,
            )
        if allowance is not None and allowance.counts_tokens:
            ticket.charge(prompt_estimate(size, self._context_of(model)))
        return None

    def _allowance(self, tenant: str) -> Allowance:
        found = self._allowances.get(tenant)
        if found is None:
            limits = self._limits.get(tenant, self._config.default_tenant)
            found = self._allowances[tenant] = Allowance(limits, self._clock())
        return found

    def _host_advice(self) -> str:
        if self._config.allowed_hosts:
            return "this host name is not allowed; use a host name in metering.allowedHosts"
        return (
            "this host name is not a name of this machine; use localhost, or add the name to allowedHosts in the "
            "configuration file"
        )
