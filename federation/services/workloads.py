"""What callers do with workloads: create, change, delete, renew. One transaction each, with its audit row in it."""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from federation.domain.errors import Conflict, IllegalTransition, NotFound
from federation.domain.records import Idempotent
from federation.domain.workload import Workload, WorkloadKind, WorkloadPhase, WorkloadSpec, WorkloadStep
from federation.ports import Transaction
from federation.services.callers import Act, Caller, KeyReused, Ports, PreconditionFailed, audited
from federation.services.showing import workload_view

LEASE_MS: Final = 10 * 60 * 1000
KEY_LIFE_MS: Final = 24 * 60 * 60 * 1000
Edit = Callable[[WorkloadSpec], WorkloadSpec]


@dataclass(frozen=True, slots=True, kw_only=True)
class Once:
    """An idempotency key and the hash of the body that came with it."""

    key: str
    body: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Created:
    """The workload's id, and what was first answered; *replayed* when an earlier request under the key had made it."""

    workload: str
    answer: bytes
    replayed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Which workload, by id, and the versions at which the caller wants it touched (None: any)."""

    id: str
    versions: frozenset[int] | None = None


class _Answer(msgspec.Struct):
    id: str


async def create(ports: Ports, caller: Caller, spec: WorkloadSpec, once: Once | None = None) -> Created:
    """Record a new workload, undecided, so that it stands in the scheduler's queue."""
    workload = _new(ports, spec)
    try:
        return await _create(ports, caller, workload, once)
    except KeyReused:
        raise
    except Conflict:
        # Two requests with one key may both have found no answer; the one that lost finds that of the other.
        if once is None or (answered := await _answered(ports, spec.team, once)) is None:
            raise
        return answered


async def change(ports: Ports, caller: Caller, target: Target, edit: Edit) -> Workload:
    """Put what *edit* makes of the spec in its place, at a new version; the same spec again changes nothing."""
    async with ports.store.transaction() as tx:
        before = await _locked(tx, caller, target)
        spec = edit(before.spec)
        if spec == before.spec:
            return before
        changed = _stepped(before, WorkloadStep.CHANGE)
        if _shape(spec) != _shape(before.spec):
            # Who asks for something else may have mended what a cluster failed it for: it is tried again at once.
            changed = replace(changed, avoid={}, failures={})
        after = replace(changed, spec=spec, version=before.version + 1, changed_ms=ports.clock.now_ms())
        await _save(tx, ports, caller, ("workload.change", before, after))
        return after


async def delete(ports: Ports, caller: Caller, target: Target) -> Workload:
    """Let it end: the scheduler withdraws its placements, and the row goes when all have given their claims back."""
    async with ports.store.transaction() as tx:
        before = await _locked(tx, caller, target)
        if before.phase is WorkloadPhase.DELETING:
            return before
        deleting = _stepped(before, WorkloadStep.DELETE)
        after = replace(deleting, version=before.version + 1, changed_ms=ports.clock.now_ms())
        await _save(tx, ports, caller, ("workload.delete", before, after))
        return after


async def renew(ports: Ports, caller: Caller, target: Target) -> Workload:
    """Extend the lease of a workload that the caller deploys itself; decides nothing anew."""
    async with ports.store.transaction() as tx:
        before = await _locked(tx, caller, target)
        if before.spec.kind is not WorkloadKind.CALLER:
            raise Conflict("the hub deploys this workload; it has no lease to renew")
        if before.phase is WorkloadPhase.DELETING:
            raise Conflict("the workload is deleting")
        after = replace(before, lease_until_ms=ports.clock.now_ms() + LEASE_MS)
        await tx.save_workloads([after])
        return after


def body_hash(body: bytes) -> str:
    """What tells two bodies under one idempotency key apart."""
    return blake2b(body, digest_size=16).hexdigest()


def _new(ports: Ports, spec: WorkloadSpec) -> Workload:
    now_ms = ports.clock.now_ms()
    lease = now_ms + LEASE_MS if spec.kind is WorkloadKind.CALLER else None
    return Workload(id=ports.ids.new(), spec=spec, created_ms=now_ms, changed_ms=now_ms, lease_until_ms=lease)


async def _create(ports: Ports, caller: Caller, workload: Workload, once: Once | None) -> Created:
    now_ms = workload.created_ms
    answer = msgspec.json.encode(workload_view(workload, ()))
    async with ports.store.transaction() as tx:
        if once is not None and (answered := await _known(tx, workload.spec.team, once, now_ms)) is not None:
            return answered
        await tx.add_workload(workload)
        act = Act(what="workload.create", target=workload.id, after=_recorded(workload))
        await tx.audit(audited(caller, act, now_ms))
        if once is not None:
            team = workload.spec.team
            await tx.remember(
                Idempotent(team=team, key=once.key, body=once.body, status=202, answer=answer, at_ms=now_ms)
            )
    return Created(workload=workload.id, answer=answer)


async def _answered(ports: Ports, team: str, once: Once) -> Created | None:
    async with ports.store.transaction() as tx:
        return await _known(tx, team, once, ports.clock.now_ms())


async def _known(tx: Transaction, team: str, once: Once, now_ms: int) -> Created | None:
    found = await tx.idempotent(team, once.key)
    if found is None or found.at_ms + KEY_LIFE_MS <= now_ms:
        return None
    if found.body != once.body:
        raise KeyReused("this idempotency key was used with another body")
    answer = msgspec.json.decode(found.answer, type=_Answer)
    return Created(workload=answer.id, answer=found.answer, replayed=True)


async def _locked(tx: Transaction, caller: Caller, target: Target) -> Workload:
    found = (await tx.lock_workloads([target.id])).get(target.id)
    if found is None or not caller.sees(found.spec.team):
        raise NotFound("no such workload")
    if target.versions is not None and found.version not in target.versions:
        raise PreconditionFailed(f"the workload is at version {found.version} now")
    return found


def _shape(spec: WorkloadSpec) -> WorkloadSpec:
    """All that is asked for but how many replicas."""
    components = tuple(replace(component, replicas=0) for component in spec.components)
    return replace(spec, components=components, manifest=None, surge=0, completions=None)


def _stepped(workload: Workload, step: WorkloadStep) -> Workload:
    try:
        return workload.after(step)
    except IllegalTransition as error:
        raise Conflict(f"the workload is {workload.phase}") from error


async def _save(tx: Transaction, ports: Ports, caller: Caller, done: tuple[str, Workload, Workload]) -> None:
    what, before, after = done
    await tx.save_workloads([after])
    act = Act(what=what, target=after.id, before=_recorded(before), after=_recorded(after))
    await tx.audit(audited(caller, act, ports.clock.now_ms()))


def _recorded(workload: Workload) -> dict[str, Any]:
    """What the audit keeps: the spec, with a digest in place of the manifest, whose values may be confidential."""
    spec: dict[str, Any] = msgspec.to_builtins(replace(workload.spec, manifest=None))
    if workload.spec.manifest is not None:
        spec["manifest"] = body_hash(msgspec.json.encode(workload.spec.manifest, order="deterministic"))
    return {"version": workload.version, "phase": str(workload.phase), "spec": spec}
