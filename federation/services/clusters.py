"""What operators do with clusters: cordon and uncordon. What they have and use is only ever observed."""

from msgspec.structs import replace

from federation.domain.cluster import Cluster
from federation.domain.errors import NotFound
from federation.services.callers import Act, Caller, Ports, audited


async def set_cordoned(ports: Ports, caller: Caller, name: str, cordoned: bool) -> Cluster:
    """Let *name* take nothing new, or take again; what runs there stays (protocol 3.10)."""
    async with ports.store.transaction() as tx:
        before = (await tx.lock_clusters([name])).get(name)
        if before is None:
            raise NotFound("no such cluster")
        if before.cordoned == cordoned:
            return before
        # Plans made on the old definition must not commit; images read what changed by the revision.
        after = replace(before, cordoned=cordoned, revision=before.revision + 1, definition=before.definition + 1)
        await tx.save_clusters([after])
        act = Act(
            what="cluster.cordon" if cordoned else "cluster.uncordon",
            target=name,
            before={"cordoned": before.cordoned},
            after={"cordoned": cordoned},
        )
        await tx.audit(audited(caller, act, ports.clock.now_ms()))
        return after
