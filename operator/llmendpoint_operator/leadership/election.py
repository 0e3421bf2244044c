"""Decides whether this process may write to the namespaces of one scope. A state machine without I/O and clock.

The replicas of an installation share a Lease. One of them holds it and renews it every 5 s. As in client-go, the others
never compare the times in it with their clocks: they take it if it has not changed for its duration, measured with
their own monotonic clock since they observed the last change. The holder stops writing 10 s after it sent its last
successful renewal, which is before the 15 s of the others can have passed. Clocks that jump, or differ, therefore never
make two holders. Only clocks whose speeds differ by a third could.

    phase     the process                                            writes           then
    Standby   does not hold the Lease                                nothing          takes it: Claiming
    Claiming  holds it, but others may not know about it yet         nothing          they do: Leading
                                                                                      another one serves: Yielding
    Yielding  holds it, but another installation serves the scope    nothing          that one ended: Claiming
                                                                                      loses the Lease: Standby
    Leading   holds it and serves the scope                          until 10 s after loses the Lease: Standby
                                                                     its last renewal

Who takes the Lease of its own installation from a holder that was serving is Leading immediately.

Scopes of different installations can overlap. These rules keep at most one process writing to a namespace:

- **The same Lease** (two installations for one namespace, or in one namespace): its holder serves.
- **Cluster against cluster** (two Leases): who wants to serve first announces it in its own Lease (`serving`), and then
  lists all Leases. If another one is serving, it takes the announcement back. Of two that announce at the same time, at
  least one sees the other, because each lists after its own announcement. The one that is serving never yields, so the
  first one stays. Who has taken its announcement back waits for a random time before it tries again.
- **Namespace against cluster**: a cluster-wide operator leaves out each namespace that has a Lease of such an operator.
  The operator for the namespace cannot see other namespaces. It therefore waits 12 s after it has claimed the Lease,
  and the cluster-wide operator writes only while its view of all Leases is less than 10 s old.
- **A scope is taken over from another installation by a write to the other's Lease**, after 30 s without a change: its
  holder is removed, and `serving` is set to false. If the other one comes back, its write is refused because the Lease
  has changed, or it reads that it has to claim its scope again. The 30 s are longer than a restart takes, so that a
  restart is not a takeover.

The view of the cluster-wide operator is the watch: when that shows one of our own renewals, it has shown all changes
before it. If it has not shown one for 7 s, the operator lists all Leases.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, TypeAlias

from llmendpoint_operator.leadership.claims import DURATION, Candidate, Claim, Reach

_RENEW_EVERY = 5.0
#: A holder writes for this time after it sent its last successful renewal.
_WRITE_FOR = 10.0
#: Pause after a failed request. It doubles with each failure if the process does not hold the Lease.
_RETRY_AFTER = 2.0
_LAST_RETRY = 10.0
#: A view of the Leases that is older than this is renewed with a request, and one that is older than `_VIEW_FOR` is not
#: good enough to write.
_LOOK_AFTER = 7.0
_VIEW_FOR = 10.0
#: Time until a new claim of a namespace is known to a cluster-wide operator: `_VIEW_FOR`, and the end of its requests.
_CLAIM = 12.0
#: The claim of another installation is respected for this time after its last change.
RESPECT = 30.0
_KEPT_TRIES = 20
_NEVER = -1e9


class Phase(Enum):
    """The relation of a process to a scope. The module's docstring has the table."""

    STANDBY = "Standby"
    CLAIMING = "Claiming"
    YIELDING = "Yielding"
    LEADING = "Leading"


@dataclass(frozen=True)
class Wait:
    """Do nothing for some seconds, unless the watch shows a change of a Lease."""

    seconds: float


@dataclass(frozen=True)
class Look:
    """Read the Lease of the scope, or all Leases for a cluster-wide scope, and call `looked`."""


@dataclass(frozen=True)
class Write:
    """Create the Lease, or replace `last`, and call `trying`, and then `wrote`, `conflicted` or `failed`."""

    last: Claim | None
    serving: bool


@dataclass(frozen=True)
class TakeOver:
    """Replace the Lease of another installation with one that nobody holds, and call `saw` or `not_taken_over`."""

    last: Claim


Action: TypeAlias = Wait | Look | Write | TakeOver


@dataclass(frozen=True)
class Standing:
    """What people are told about a scope.

    `leader` is whether this process serves the scope now. `other` is the claim that prevents it, if there is one, and
    `conflict` is whether that claim is of another installation. `left_out` are the namespaces that a cluster-wide
    operator does not serve, and the installations that do.
    """

    phase: Phase
    leader: bool
    other: Claim | None
    conflict: bool
    left_out: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class _Try:
    """A write that was sent at `at`. `continues` is whether it replaces a claim of our installation that was served.

    If the write succeeds, no other installation has taken the scope over before.
    """

    spec: Mapping[str, Any]
    at: float
    continues: bool


@dataclass(frozen=True)
class _Known:
    """A Lease, and the time at which this process observed its last change.

    The `claim` of our own Lease is None if it does not exist. That of another one is kept for a while after its
    deletion (`gone`), because its holder may not know yet.
    """

    claim: Claim | None
    version: int
    changed: float
    gone: bool = False


class Election:
    """The state of one process for one scope. All times are seconds of one monotonic clock."""

    def __init__(self, me: Candidate, jitter: Callable[[], float]) -> None:
        self.me = me
        self._jitter = jitter
        #: The Lease of the scope; None before the first look.
        self._own: _Known | None = None
        #: The Leases in other namespaces, for a cluster-wide scope.
        self._others: dict[str, _Known] = {}
        # Requests.
        self._looked = _NEVER
        self._must_look = True
        self._not_before = _NEVER
        self._failures = self._conflicts = 0
        #: The writes since the last one whose response was received. Each of them may have succeeded.
        self._tries: list[_Try] = []
        # What this process holds. `_written` is the spec of its last successful write.
        self._held = False
        self._written: Mapping[str, Any] = {}
        self._renewed = _NEVER
        #: The earliest times for the next attempts to take over Leases of others.
        self._take_over_at: dict[str, float] = {}
        #: The end of the claim of a namespace.
        self._claimed_until = 0.0
        #: Whether a list of all Leases, sent after the last announcement, had no other that is serving.
        self._alone = False
        #: No announcement before this time, because another one was made at the same time.
        self._yield_until = _NEVER
        #: The time for which all Leases are known.
        self._view = _NEVER

    # What happened.

    def saw(self, claim: Claim, now: float) -> None:
        """Record a Lease from the watch or a look."""
        if claim.namespace != self.me.home:
            self._saw_other(claim, now)
            return
        if self._own is None or _is_newer(claim, self._own):
            self._own = _Known(claim, claim.version, now)
            # The response to our own write may be late or lost. Others may change labels, but not the spec.
            mine = next((tried for tried in self._tries if tried.spec == claim.spec), None)
            if mine is not None:
                self._hold(claim, mine)
            self._held = self._held and claim.spec == self._written
        if self._held and claim.spec == self._written:
            # The watch shows changes in their order, so it has shown all that happened before this renewal was sent.
            self._view = max(self._view, self._renewed)

    def deleted(self, claim: Claim, now: float) -> None:
        """Record that the watch shows the deletion of a Lease."""
        if claim.namespace != self.me.home:
            self._saw_other(claim, now, gone=True)
        elif self._own is None or claim.version >= self._own.version:
            self._own = _Known(None, claim.version, now)

    def looked(self, claims: Iterable[Claim], sent: float, now: float) -> None:
        """Record the response to a look that was sent at `sent`."""
        found = list(claims)
        self._looked, self._must_look, self._failures = now, False, 0
        self._view = max(self._view, sent)
        for claim in found:
            self.saw(claim, now)
        listed = {claim.namespace for claim in found}
        for namespace, known in self._others.items():
            if namespace not in listed and not known.gone:
                self._others[namespace] = replace(known, changed=now, gone=True)
        if self.me.home not in listed and (self._own is None or self._own.claim):
            # An absent Lease at the first look was not there before, as far as this process can know.
            changed = now if self._own is not None else _NEVER
            self._own = _Known(None, self._own.version if self._own is not None else 0, changed)
        if not self._held or not self._serves_in_lease() or self.me.reach is Reach.NAMESPACE:
            return
        if self._rival() is None:
            self._alone = True
        elif not self._alone:
            self._yield_until = now + self._jitter()

    def trying(self, write: Write, spec: Mapping[str, Any], now: float) -> None:
        """Record that a write with this spec is being sent."""
        continues = write.last is not None and (self._held or self._is_served_by_us(write.last))
        self._tries = [*self._tries[-_KEPT_TRIES:], _Try(spec, now, continues)]

    def wrote(self, claim: Claim) -> None:
        """Record the response to the last write. It may have been sent long ago if the process was paused."""
        self._failures = self._conflicts = 0
        if self._tries and (self._own is None or claim.version >= self._own.version):
            last = self._tries[-1]
            self._own = _Known(claim, claim.version, last.at)
            self._hold(claim, last)

    def conflicted(self, now: float) -> None:
        """Record that a write was refused because the Lease has changed."""
        self._must_look = True
        self._conflicts += 1
        if self._conflicts > 1:
            self._not_before = now + _RETRY_AFTER

    def failed(self, now: float) -> None:
        """Record that a request was refused for another reason, or that no response was received in time."""
        pause = _RETRY_AFTER if self._held else min(_LAST_RETRY, _RETRY_AFTER * 2 ** min(self._failures, 10))
        self._failures += 1
        self._not_before = now + pause

    def not_taken_over(self, namespace: str, now: float) -> None:
        """Record that a Lease of another installation could not be written."""
        self._take_over_at[namespace] = now + RESPECT
        self._must_look = True

    def give_up(self) -> Claim | None:
        """Stop writing for good. Return the Lease if this process holds it and should give it back."""
        held, self._held, self._tries = self._held, False, []
        return self._own.claim if held and self._own is not None else None

    # What to do.

    def next(self, now: float) -> Action:
        """Return the next action."""
        self._forget_deleted(now)
        if now < self._not_before:
            return Wait(self._not_before - now)
        look_in = self._seconds_to_look(now)
        if look_in <= 0:
            return Look()
        wait = self._seconds_to_write(now)
        if wait <= 0:
            return Write(self._own.claim if self._own is not None else None, self._should_serve(now))
        ended, end_in = self._next_ended(now)
        return TakeOver(ended) if ended is not None and end_in <= 0 else Wait(min(look_in, wait, end_in))

    def may_write(self, namespace: str, now: float) -> bool:
        """Return whether this process may write to a namespace of its scope now."""
        if not self._leads(now):
            return False
        if self.me.reach is Reach.NAMESPACE:
            return namespace == self.me.home
        return not self._is_left_out(namespace)

    def seconds_to_change(self, now: float) -> float:
        """Return the time after which `may_write` may have changed without any call."""
        moments = [self._renewed + _WRITE_FOR, self._view + _VIEW_FOR, self._claimed_until]
        return min((moment - now for moment in moments if moment > now), default=_RENEW_EVERY)

    def standing(self, now: float) -> Standing:
        """Return what people are told about the scope."""
        if self._held:
            other = None if self._has_claimed(now) else self._rival()
        else:
            other = self._own.claim if self._own is not None else None
        conflict = other is not None and other.installation != self.me.installation
        left_out = tuple(
            (namespace, known.claim.installation)
            for namespace, known in sorted(self._others.items())
            if known.claim is not None and self._is_left_out(namespace)
        )
        return Standing(self._phase(now), self._leads(now), other, conflict, left_out)

    # How it is decided.

    def _phase(self, now: float) -> Phase:
        if not self._held:
            return Phase.STANDBY
        if self._rival() is not None and not self._alone:
            return Phase.YIELDING
        return Phase.LEADING if self._has_claimed(now) else Phase.CLAIMING

    def _leads(self, now: float) -> bool:
        fresh = now < self._renewed + _WRITE_FOR
        if self.me.reach is Reach.CLUSTER:
            fresh = fresh and now < self._view + _VIEW_FOR
        return fresh and self._held and self._is_intact() and self._has_claimed(now)

    def _has_claimed(self, now: float) -> bool:
        if self.me.reach is Reach.CLUSTER:
            return self._alone and self._serves_in_lease()
        return self._serves_in_lease() and now >= self._claimed_until

    def _should_serve(self, now: float) -> bool:
        """Return whether the next write announces that this process serves the scope."""
        if self.me.reach is Reach.CLUSTER:
            return (self._held and self._alone) or (self._rival() is None and now >= self._yield_until)
        if self._held:
            return now >= self._claimed_until
        return self._own is not None and self._own.claim is not None and self._is_served_by_us(self._own.claim)

    def _is_served_by_us(self, claim: Claim) -> bool:
        return claim.serving and (claim.installation, claim.reach) == (self.me.installation, self.me.reach)

    def _hold(self, claim: Claim, tried: _Try) -> None:
        """Record a successful write."""
        if not tried.continues:
            self._claimed_until = tried.at + _CLAIM
        if not tried.continues or not claim.serving:
            self._alone = False
        if self.me.reach is Reach.CLUSTER and claim.serving and not self._alone:
            self._must_look = True
        self._held, self._written, self._renewed, self._tries = True, claim.spec, tried.at, []

    def _is_intact(self) -> bool:
        return self._own is not None and self._own.claim is not None

    def _serves_in_lease(self) -> bool:
        return self._own is not None and self._own.claim is not None and self._own.claim.serving

    def _seconds_to_look(self, now: float) -> float:
        if self._must_look or self._own is None:
            return 0.0
        if not self._held:
            return max(self._looked, self._own.changed) + _LOOK_AFTER - now
        return self._view + _LOOK_AFTER - now if self.me.reach is Reach.CLUSTER else _RENEW_EVERY

    def _seconds_to_write(self, now: float) -> float:
        if not self._held:
            return self._seconds_until_free(now)
        if not self._is_intact() or self._should_serve(now) != self._serves_in_lease():
            return 0.0
        moments = [self._renewed + _RENEW_EVERY]
        if moments[0] > now and not self._serves_in_lease():
            # The time at which `_should_serve` may change.
            moments += [self._claimed_until, self._yield_until]
        return min((moment - now for moment in moments if moment > now), default=0.0)

    def _seconds_until_free(self, now: float) -> float:
        """Return the time until this process may take the Lease, if it does not change until then."""
        known = self._own
        if known is None:
            return 0.0
        claim = known.claim
        if claim is None:
            # Its holder is told of the deletion by the watch, or by its next renewal.
            return known.changed + DURATION - now
        if claim.installation not in ("", self.me.installation):
            return known.changed + max(RESPECT, claim.seconds) - now
        return known.changed + claim.seconds - now if claim.holder else 0.0

    def _rival(self) -> Claim | None:
        """Return the claim of another cluster-wide installation that is serving."""
        claims = (known.claim for known in self._others.values())
        return next((claim for claim in claims if claim and claim.reach is Reach.CLUSTER and claim.serving), None)

    def _is_left_out(self, namespace: str) -> bool:
        """Return whether a namespace has the Lease of an operator for this namespace, held or served."""
        known = self._others.get(namespace)
        if known is None or known.claim is None or known.claim.reach is not Reach.NAMESPACE:
            return False
        return bool(known.claim.holder) or known.claim.serving

    def _next_ended(self, now: float) -> tuple[Claim | None, float]:
        """Return the Lease of another installation to take over next, and the time until then."""
        if not self._held or self.me.reach is not Reach.CLUSTER:
            return None, RESPECT
        leads, rival = self._leads(now), self._rival()
        ended = [
            (max(known.changed + RESPECT, self._take_over_at.get(namespace, _NEVER)) - now, known)
            for namespace, known in self._others.items()
            if known.gone or (self._is_left_out(namespace) if leads else known.claim is rival)
        ]
        wait, first = min(ended, key=lambda item: item[0], default=(RESPECT, None))
        return first.claim if first is not None and not first.gone else None, wait

    def _saw_other(self, claim: Claim, now: float, *, gone: bool = False) -> None:
        known = self._others.get(claim.namespace)
        # A listing shows a deletion by the absence of the Lease, so that its last version is the last one known.
        is_news = known is None or _is_newer(claim, known) or (gone and claim.version == known.version)
        if self.me.reach is Reach.CLUSTER and is_news:
            self._others[claim.namespace] = _Known(claim, claim.version, now, gone)

    def _forget_deleted(self, now: float) -> None:
        self._others = {
            namespace: known
            for namespace, known in self._others.items()
            if not known.gone or now < known.changed + RESPECT
        }


def _is_newer(claim: Claim, known: _Known) -> bool:
    """Return whether a Lease is newer than the known one, or exists although it was taken for deleted."""
    return claim.version > known.version or (claim.version == known.version and (known.gone or known.claim is None))
