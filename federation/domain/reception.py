"""Keeping an agent's numbered events in order: epochs, duplicates, gaps, resyncs (protocol section 1)."""

from enum import Enum
from typing import Final

from msgspec.structs import replace

from federation.domain.cluster import Place, Reception
from federation.domain.events import Stamp

WINDOW_EVENTS: Final = 64
WINDOW_MS: Final = 5_000
RETIRED_UIDS: Final = 64
MISSING_LIMIT: Final = 10_000


class Standing(Enum):
    """What an event's stamp says about it before its content is looked at."""

    CURRENT = "of the current epoch"
    OLD = "of an epoch that is over"
    UNKNOWN = "of an epoch whose opening was not seen"


def receive(reception: Reception, stamp: Stamp, *, opens: bool, at_ms: int) -> tuple[Reception, Standing]:
    """Count *stamp* as come in. *opens*: it is a ResyncStarted, the only event by which a new epoch takes over (1.1)."""
    if stamp.epoch_uid in reception.uids[:-1]:
        return reception, Standing.OLD
    current = bool(reception.uids) and stamp.epoch_uid == reception.uids[-1]
    if current and stamp.epoch < reception.epoch:
        return reception, Standing.OLD
    if current and stamp.epoch == reception.epoch:
        return _counted(reception, stamp.sequence, at_ms), Standing.CURRENT
    if not opens:
        return unsound(reception, f"epoch {stamp.epoch} was not opened by a resync"), Standing.UNKNOWN
    return _opened(reception, stamp, known=current), Standing.CURRENT


def place_of(reception: Reception, stamp: Stamp) -> Place:
    """Where *stamp* stands among all that this cluster's agents have told."""
    return (reception.term, stamp.epoch, stamp.sequence)


def unsound(reception: Reception, why: str) -> Reception:
    """The view can no longer be trusted to be whole, until a resync that begins after this (1.3)."""
    return replace(reception, unsound=why, mending=False)


def resync_started(reception: Reception, resync: str, place: Place) -> Reception:
    """A resync begins: what it does not tell again will be gone (1.4). What was missing is so until it is told."""
    return replace(reception, resync=resync, started=place, mending=True)


def resync_finished(reception: Reception, place: Place, missing: tuple[str, ...]) -> Reception:
    """A resync has come to its end; *missing* it listed and were not seen, they keep the cluster stale (1.4)."""
    mended = reception.mending and len(missing) <= MISSING_LIMIT
    if len(missing) > MISSING_LIMIT:
        reception = unsound(reception, f"{len(missing)} listed objects were not seen")
    return replace(
        reception,
        resync="",
        finished=max(reception.finished, place),
        missing=missing[:MISSING_LIMIT],
        unsound="" if mended else reception.unsound,
        mending=False,
    )


def told(reception: Reception, name: str) -> Reception:
    """The object *name* was seen: it is missing no more."""
    if name not in reception.missing:
        return reception
    return replace(reception, missing=tuple(other for other in reception.missing if other != name))


def _opened(reception: Reception, stamp: Stamp, *, known: bool) -> Reception:
    uids = reception.uids if known else (*reception.uids, stamp.epoch_uid)[-RETIRED_UIDS:]
    term = reception.term if known else reception.term + 1
    return replace(reception, uids=uids, term=term, epoch=stamp.epoch, next=stamp.sequence + 1, beyond=())


def _counted(reception: Reception, sequence: int, at_ms: int) -> Reception:
    if sequence == reception.next and not reception.beyond:
        return replace(reception, next=sequence + 1)
    if sequence >= reception.next and sequence not in reception.beyond:
        since = reception.gap_since_ms if reception.beyond else at_ms
        beyond = tuple(sorted((*reception.beyond, sequence)))
        reception = _closed_up(replace(reception, beyond=beyond, gap_since_ms=since))
    return _gap_looked_for(reception, at_ms)


def _closed_up(reception: Reception) -> Reception:
    following, beyond = reception.next, list(reception.beyond)
    while beyond and beyond[0] == following:
        beyond.pop(0)
        following += 1
    return replace(
        reception, next=following, beyond=tuple(beyond), gap_since_ms=reception.gap_since_ms if beyond else 0
    )


def _gap_looked_for(reception: Reception, at_ms: int) -> Reception:
    """A sequence that is missing after the reorder window is a gap (1.3): note it, and go on behind it."""
    if not reception.beyond:
        return reception
    late = at_ms - reception.gap_since_ms > WINDOW_MS
    if not late and reception.beyond[-1] - reception.next < WINDOW_EVENTS:
        return reception
    noted = unsound(reception, f"event {reception.next} of epoch {reception.epoch} is missing")
    skipped = replace(noted, next=noted.beyond[0], gap_since_ms=at_ms)
    return _gap_looked_for(_closed_up(skipped), at_ms) if not late else _closed_up(skipped)
