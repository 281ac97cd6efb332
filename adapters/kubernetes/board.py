"""The placed objects of a cluster, put together from the watches of their kinds, ReplicaSets and autoscalers."""

from typing import Final, Generic, TypeVar

from adapters.kubernetes.kinds import CARRIED
from adapters.kubernetes.objects import Controller, HorizontalPodAutoscaler, Read, ReplicaSet
from adapters.kubernetes.placed import Keeper, Placed, Scaler, keeper_of, placed_of, scaler_of, whole
from adapters.kubernetes.watch import DELETED, Batch
from federation.domain.member import Change, Listed, MemberObject, ObjectChanged, ObjectDeleted, ObjectKey, Relisted

G = TypeVar("G")
V = TypeVar("V")
OBJECTS: Final = "objects"
KEEPERS: Final = "replicasets"
SCALERS: Final = "autoscalers"
SOURCES: Final = (*CARRIED, KEEPERS, SCALERS)


class Grouped(Generic[G, V]):
    """Values by uid, and by a group that several may share."""

    def __init__(self) -> None:
        self._groups: dict[str, G] = {}
        self._values: dict[G, dict[str, V]] = {}

    def put(self, uid: str, group: G, value: V) -> None:
        """Keep *value* in the place of what had its uid."""
        self.drop(uid)
        self._groups[uid] = group
        self._values.setdefault(group, {})[uid] = value

    def drop(self, uid: str) -> G | None:
        """Forget it; its group, if it was known."""
        group = self._groups.pop(uid, None)
        if group is not None:
            members = self._values[group]
            del members[uid]
            if not members:
                del self._values[group]
        return group

    def of(self, group: G) -> dict[str, V]:
        """The members of a group, by uid."""
        return self._values.get(group, {})

    def get(self, uid: str) -> V | None:
        """The value with that uid."""
        group = self._groups.get(uid)
        return self._values[group][uid] if group is not None else None

    def uids(self) -> list[str]:
        """All that are known."""
        return list(self._groups)


class Board:
    """Folds what each source tells. Nothing is told on before all have listed once, and then only what differs."""

    def __init__(self) -> None:
        self._awaited = set(SOURCES)
        self._open = False
        self._listing: dict[str, set[str]] = {}
        self._placed: dict[str, Grouped[ObjectKey, Placed]] = {api: Grouped() for api in CARRIED}
        self._keepers: Grouped[str, Keeper] = Grouped()
        self._scalers: Grouped[ObjectKey, Scaler] = Grouped()
        self._told: dict[str, MemberObject] = {}

    def fold(self, source: str, batch: Batch[Read]) -> list[Change]:
        """Take a batch of *source*; what that changes."""
        touched: set[str] = set()
        if batch.begins:
            self._listing[source] = set()
        for kind, read in batch.told:
            if source in self._listing:
                self._listing[source].add(read.metadata.uid)
            touched |= self._drop(source, read.metadata.uid) if kind == DELETED else self._put(source, read)
        if batch.complete:
            touched |= self._complete(source)
        if self._awaited:
            return []
        return self._changes(touched) if self._open else self._everything()

    def _complete(self, source: str) -> set[str]:
        """What a listing did not tell is no more."""
        self._awaited.discard(source)
        listed = self._listing.pop(source, set())
        touched: set[str] = set()
        for uid in self._index(source).uids():
            if uid not in listed:
                touched |= self._drop(source, uid)
        return touched

    def _index(self, source: str) -> "Grouped[ObjectKey, Placed] | Grouped[str, Keeper] | Grouped[ObjectKey, Scaler]":
        if source == KEEPERS:
            return self._keepers
        return self._scalers if source == SCALERS else self._placed[source]

    def _put(self, source: str, read: Read) -> set[str]:
        """Learn of it; the uids of the objects that it concerns."""
        uid = read.metadata.uid
        before = self._drop(source, uid)
        if isinstance(read, ReplicaSet):
            keeper = keeper_of(read)
            self._keepers.put(uid, keeper.owner, keeper)
            return before | {keeper.owner}
        if isinstance(read, HorizontalPodAutoscaler):
            scaler = scaler_of(read)
            if scaler is not None:
                self._scalers.put(uid, scaler.target, scaler)
                return before | self._targets(scaler.target)
        if isinstance(read, Controller):
            placed = placed_of(source, read)
            self._placed[source].put(uid, placed.object.key, placed)
            return {uid}
        return before

    def _drop(self, source: str, uid: str) -> set[str]:
        if source == KEEPERS:
            owner = self._keepers.drop(uid)
            return {owner} if owner else set()
        if source == SCALERS:
            target = self._scalers.drop(uid)
            return self._targets(target) if target is not None else set()
        return {uid} if self._placed[source].drop(uid) is not None else set()

    def _targets(self, key: ObjectKey) -> set[str]:
        index = self._placed.get(key.api)
        return set(index.of(key)) if index is not None else set()

    # --- telling ---------------------------------------------------------------------------------------------------

    def _everything(self) -> list[Change]:
        self._open = True
        uids = {uid for index in self._placed.values() for uid in index.uids()}
        return [Relisted(OBJECTS), *self._changes(uids), Listed(OBJECTS)]

    def _changes(self, touched: set[str]) -> list[Change]:
        changes: list[Change] = []
        for uid in sorted(touched):
            found = self._whole(uid)
            if found is None:
                if self._told.pop(uid, None) is not None:
                    changes.append(ObjectDeleted(uid))
            elif found != self._told.get(uid):
                self._told[uid] = found
                changes.append(ObjectChanged(found))
        return changes

    def _whole(self, uid: str) -> MemberObject | None:
        for index in self._placed.values():
            placed = index.get(uid)
            if placed is not None:
                bounds = next((each.bounds for each in self._scalers.of(placed.object.key).values()), None)
                return whole(placed, list(self._keepers.of(uid).values()), bounds)
        return None
