"""Memory of held request bodies: how much all clients together may keep, and how much of it one tenant.

Two pools separate small bodies from large ones, so that images never displace chats. In each pool, a tenant may use as
much as it leaves free (dynamic thresholds; Choudhury and Hahne, 1998). One tenant alone gets half of the pool; n
tenants get one (n + 1)th each, and the same amount stays free for the next tenant. So no number of slow or hostile
tenants can fill a pool. Without API keys, all clients are one tenant, which may use whole pools.
"""

from __future__ import annotations

from llmendpoint_sidecar.budget import SMALL_BODY_BYTES, Budget


class Pool:
    """Memory that tenants share, in bytes. Without `fair`, a tenant may use all of it."""

    __slots__ = ("_by_tenant", "_fair", "_limit", "used")

    def __init__(self, limit: int, *, fair: bool) -> None:
        self._limit = limit
        self._fair = fair
        self._by_tenant: dict[str, int] = {}
        self.used = 0

    def take(self, tenant: str, size: int) -> bool:
        """Take memory for a tenant. Returns False, and takes nothing, if the tenant may not use so much."""
        used = self.used + size
        own = self._by_tenant.get(tenant, 0) + size
        free = self._limit - used
        if free < 0 or (self._fair and own > free):
            return False
        self.used = used
        self._by_tenant[tenant] = own
        return True

    def give_back(self, tenant: str, size: int) -> None:
        """Give back memory that a tenant no longer uses."""
        self.used -= size
        left = self._by_tenant.pop(tenant, 0) - size
        if left > 0:
            self._by_tenant[tenant] = left


class HeldMemory:
    """The memory of held bodies of one process. `fair`: tenants have keys, so each gets its share."""

    __slots__ = ("body_bytes", "large", "small")

    def __init__(self, budget: Budget, *, fair: bool) -> None:
        #: Maximum size of one body.
        self.body_bytes = budget.body_bytes
        self.small = Pool(budget.held_small_bytes, fair=fair)
        self.large = Pool(budget.held_large_bytes, fair=fair)

    @property
    def used(self) -> int:
        """The memory of all held bodies, in bytes."""
        return self.small.used + self.large.used


class BodyMemory:
    """The memory of one held body. `release` must be called at its end."""

    __slots__ = ("_memory", "_pool", "_tenant", "size")

    def __init__(self, memory: HeldMemory, tenant: str, announced: int = 0) -> None:
        """`announced` is the size of the body if its head says it, so that a large one needs no room for small ones."""
        self._memory = memory
        self._tenant = tenant
        self._pool = memory.large if announced > SMALL_BODY_BYTES else memory.small
        self.size = 0

    def grow(self, size: int) -> bool:
        """Take more memory. Returns False, and keeps what it has, if the tenant may not use so much."""
        total = self.size + size
        small, large = self._memory.small, self._memory.large
        stays = self._pool is large or total <= SMALL_BODY_BYTES
        if not (stays and self._pool.take(self._tenant, size)):
            # A small body may also use the memory of large ones, but not the other way round.
            if self._pool is large or not large.take(self._tenant, total):
                return False
            small.give_back(self._tenant, self.size)
            self._pool = large
        self.size = total
        return True

    def release(self) -> None:
        """Give everything back. Only the first call has an effect."""
        if self.size:
            self._pool.give_back(self._tenant, self.size)
            self.size = 0
