"""What must hold for every request, under every configuration: who is charged, and what passes.

The request is judged by `charge_judge`, which shares no code with the product.
"""

from __future__ import annotations

from typing import NamedTuple

from llmendpoint_common.contracts.sidecar import (
    IncludeUsage,
    ModelManagement,
    Outcome,
    RefusalReason,
    RequestRecord,
    SidecarConfig,
    TenantConfig,
    TenantLimits,
)
from support.wire.charge_cases import KEYS
from support.wire.charge_judge import ALLOWED, Answer, Request, decoded, is_allowed, kind_of, read_models

_LIMITED = TenantLimits(
    requests_per_minute=60, tokens_per_minute=10_000_000, max_concurrent=4, allowed_models=(ALLOWED,)
)
_TENANT_A = TenantConfig(
    name="a", requests_per_minute=60, tokens_per_minute=10_000_000, max_concurrent=4, allowed_models=("M",)
)
_SPLICE = b',"stream_options":{"include_usage":true}'
_UNKNOWN_CONTEXT = 32_768
_MAX_BODY = 64 * 1024 * 1024
#: Reasons that a case can give. All others depend on other requests, on the time, or on invalid HTTP.
_REASONS = frozenset({RefusalReason.KEY, RefusalReason.MANAGEMENT, RefusalReason.MODEL, RefusalReason.MAX_CONCURRENT,
                      RefusalReason.INVALID_BODY, RefusalReason.BODY_TOO_LARGE})  # fmt: skip


class FindingError(Exception):
    """A request was charged, forwarded or answered in a way in which it must not be."""


class Setting(NamedTuple):
    """A configuration. `used_up`: a request of tenant `a` is in progress, and no other one is within its limits."""

    config: SidecarConfig
    keys: bool = False
    used_up: bool = False

    @property
    def forbids(self) -> bool:
        return self.config.model_management is ModelManagement.FORBIDDEN

    @property
    def injects(self) -> bool:
        return self.config.include_usage is IncludeUsage.INJECT

    def limits_of(self, tenant: str) -> TenantLimits:
        return next((one for one in self.config.tenants if one.name == tenant), self.config.default_tenant)


_FORBIDDEN, _INJECT = ModelManagement.FORBIDDEN, IncludeUsage.INJECT
SETTINGS = {
    "open": Setting(SidecarConfig()),
    "default": Setting(SidecarConfig(max_waiting=256, model_management=_FORBIDDEN)),
    "shared": Setting(SidecarConfig(default_tenant=_LIMITED)),
    "tenants": Setting(
        SidecarConfig(tenants=(_TENANT_A,), default_tenant=_LIMITED, max_waiting=256, model_management=_FORBIDDEN), keys=True
    ),
    "models": Setting(SidecarConfig(tenants=(TenantConfig(name="a", allowed_models=(ALLOWED,)),)), keys=True),
    "inject": Setting(SidecarConfig(include_usage=_INJECT)),
    "everything": Setting(
        SidecarConfig(
            tenants=(_TENANT_A,), default_tenant=_LIMITED, max_waiting=1, model_management=_FORBIDDEN, include_usage=_INJECT
        ),
        keys=True,
    ),
    "used up": Setting(SidecarConfig(tenants=(TenantConfig(name="a", max_concurrent=1, tokens_per_minute=5),)), keys=True, used_up=True),
}  # fmt: skip


class Seen(NamedTuple):
    """What happened to a request. `charged` has running requests, requests and tokens that were added, by tenant."""

    statuses: tuple[int, ...]
    forwarded: tuple[bytes, bytes, bytes] | None
    answer: Answer | None
    record: RequestRecord
    charged: dict[str, tuple[int, float, float]]

    @property
    def decision(self) -> tuple[object, ...]:
        """What must not depend on how the request is split."""
        record = self.record
        about = (record.tenant, record.model_name, record.operation, record.code, record.outcome, record.refusal_reason)
        return self.statuses, self.forwarded, about, self.charged


class Judge:
    """The rules, applied to one request under one configuration."""

    def __init__(self, setting: Setting, request: Request, seen: Seen) -> None:
        self._setting, self._request, self._seen = setting, request, seen
        self._kind = kind_of(request)
        self._readings = read_models(request)
        self._tenant = _tenant_of(request) if setting.keys and request.method != b"OPTIONS" else ""
        self._limits = setting.limits_of(self._tenant or "")

    def check(self) -> None:
        """Raise FindingError if a rule does not hold."""
        self._check_identity()
        if self._seen.forwarded is not None:
            self._check_forwarded(self._seen.forwarded)
        elif self._request.complete:
            self._check_refused()
        self._check_requests()
        self._check_tokens()

    def _fail(self, sentence: str) -> None:
        raise FindingError(f"{sentence}: {self._seen}")

    def _check_identity(self) -> None:
        seen = self._seen
        if seen.record.tenant != (self._tenant or ""):
            self._fail(f"the tenant is {self._tenant!r}")
        if self._tenant is None and (
            seen.forwarded or seen.record.refusal_reason is not self._expected(RefusalReason.KEY)
        ):
            self._fail("a request without a key was not refused for it")
        if not seen.statuses and seen.record.outcome in (Outcome.OK, Outcome.LENGTH):
            self._fail("a request without a response was counted as a success")
        left = seen.answer is not None and seen.answer.then == "left"
        if len(seen.statuses) != 1 and self._request.complete and not left:
            self._fail("the client got no response")

    def _expected(self, reason: RefusalReason) -> RefusalReason | None:
        """Return the reason for a refusal, or None if the client left before the request was complete."""
        return reason if self._seen.statuses else None

    def _check_forwarded(self, forwarded: tuple[bytes, bytes, bytes]) -> None:
        request, setting = self._request, self._setting
        if self._seen.record.refusal_reason is not None:
            self._fail("a request was forwarded and refused")
        method, target, body = forwarded
        if (method, target) != (request.method, _origin_form(request.target)):
            self._fail("another request line was forwarded")
        if body != request.body and not (self._may_inject and _is_spliced(request.body, body)):
            self._fail("another body was forwarded")
        named = any(reading.named for reading in self._readings)
        if setting.forbids and (self._kind == "manage" or (self._kind == "unknown" and self._readings and not named)):
            self._fail("a request that manages models was forwarded")
        if self._limits.allowed_models is not None and self._kind in ("run", "unknown") and request.is_counted:
            for reading in self._readings:
                if not is_allowed(reading.model):
                    self._fail(f"a request for the model {reading.model!r} was forwarded")

    @property
    def _may_inject(self) -> bool:
        return self._setting.injects and self._request.path in (b"/v1/chat/completions", b"/v1/completions")

    def _check_refused(self) -> None:
        """Check that a complete request was refused for a reason that it gave."""
        reason = self._seen.record.refusal_reason
        if reason is None:
            self._fail("a request was neither forwarded nor refused")
        plain = len(self._readings) == 1 and self._readings[0].plain and self._kind == "run"
        if reason is RefusalReason.INVALID_BODY and plain and not self._request.all(b"content-encoding"):
            self._fail("a body that Ollama accepts was refused")
        if reason is RefusalReason.MODEL and (
            self._limits.allowed_models is None or (plain and is_allowed(self._readings[0].model))
        ):
            self._fail("a model that is allowed was refused")
        if reason is RefusalReason.MANAGEMENT and (not self._setting.forbids or self._kind in ("run", "read")):
            self._fail("a request that manages nothing was refused as such")
        if reason not in _REASONS or (reason is RefusalReason.BODY_TOO_LARGE and len(self._request.body) < _MAX_BODY):
            self._fail("a request was refused for a reason that it did not give")
        if self._setting == SETTINGS["open"]:
            self._fail("a request was refused without limits")

    def _check_requests(self) -> None:
        """Check that exactly one request is charged, to the tenant of the key; and nothing if its head was refused."""
        request, reason = self._request, self._seen.record.refusal_reason
        at_head = (
            self._tenant is None
            or (self._setting.used_up and self._tenant == "a")
            or (self._setting.forbids and self._kind == "manage")
        )
        counted = request.is_counted and not at_head
        if (
            self._setting.used_up
            and self._tenant == "a"
            and request.is_counted
            and reason is not self._expected(RefusalReason.MAX_CONCURRENT)
        ):
            self._fail("a request beyond the limit was not refused")
        for tenant, (running, requests, tokens) in self._seen.charged.items():
            if running:
                self._fail(f"tenant {tenant!r} still has {running} running requests")
            mine = tenant == self._tenant and counted
            if requests != (1.0 if mine and self._limits.requests_per_minute else 0.0) or (tokens and not mine):
                self._fail(f"tenant {tenant!r} was charged {requests} requests and {tokens} tokens")
        if counted and self._limits.requests_per_minute and self._tenant not in self._seen.charged:
            self._fail("nobody was charged")

    def _check_tokens(self) -> None:
        if not self._limits.tokens_per_minute or not self._request.is_counted or self._tenant is None:
            return
        tokens, seen = self._seen.charged.get(self._tenant, (0, 0.0, 0.0))[2], self._seen
        answer = seen.answer
        if seen.forwarded is None or answer is None or answer.status >= 400:
            expected = (0.0, 0.0)
        elif self._request.method == b"POST" and answer.tokens is not None:
            expected = (answer.tokens, answer.tokens)
        elif self._kind == "run":
            # Without counts of the server, the estimate of the prompt, and the pieces of the response.
            body = decoded(self._request)
            estimate = min(-(-len(body or b"") // 4), _UNKNOWN_CONTEXT)
            expected = (estimate, estimate + 4)
        elif self._kind == "unknown":
            expected = (0.0, float(_UNKNOWN_CONTEXT + 4))
        else:
            # A response that the meter cannot read is charged one token for each piece, on each route that it reads.
            expected = (0.0, float(len(answer.pieces)))
        if not expected[0] <= tokens <= expected[1]:
            self._fail(f"{tokens} tokens were charged, and not {expected}")


def _origin_form(target: bytes) -> bytes:
    """Return the target without scheme and authority."""
    if target.startswith((b"/", b"*")):
        return target
    rest = target.partition(b"://")[2]
    cut = min((at for at in (rest.find(b"/"), rest.find(b"?")) if at >= 0), default=len(rest))
    found = rest[cut:]
    return found if found.startswith(b"/") else b"/" + found


def _is_spliced(sent: bytes, got: bytes) -> bool:
    """Return whether `got` is `sent` with the request for usage before the end of its object."""
    at = next((at for at, (one, other) in enumerate(zip(sent, got, strict=False)) if one != other), len(sent))
    # The splice begins with a comma, which can equal a byte of the body.
    return any(
        sent[:cut] + _SPLICE + sent[cut:] == got and sent[cut : cut + 1] == b"}" for cut in (at, at - 1) if cut >= 0
    )


def _tenant_of(request: Request) -> str | None:
    tenants = {key: tenant for tenant, key in KEYS.items()}
    scheme, _, rest = request.last(b"authorization").partition(b" ")
    key = rest.strip() if scheme.lower() == b"bearer" and b" " in request.last(b"authorization") else None
    return tenants.get(request.last(b"x-api-key").strip() if key is None else key)
