"""Who leads: leases of the hub's own loops. They are for speed; correctness rests on the guards of a commit."""

from typing import Final

import structlog

from federation.domain.errors import Unavailable
from federation.ports import Clock, Store

LEASE_SECONDS: Final = 10.0
_log = structlog.get_logger(__name__)


async def leads(store: Store, clock: Clock, lease: str, holder: str) -> bool:
    """Take or renew a lease."""
    async with store.transaction() as transaction:
        return await transaction.take_lease(lease, holder, clock.now_ms(), LEASE_SECONDS)


async def give_up(store: Store, lease: str, holder: str) -> None:
    """Let another take the lease at once; when the store cannot be reached it runs out by itself."""
    try:
        async with store.transaction() as transaction:
            await transaction.drop_lease(lease, holder)
    except Unavailable as error:
        _log.info("lease runs out by itself", lease=lease, error=str(error))
