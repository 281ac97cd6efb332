"""Kinds of nodes: those with the same labels, taints and scarce devices are admitted, or not, together.

A fleet has many nodes and few kinds, so a selector is compared once a kind. The label that names the host differs on
every node; it is left out of the kind where it says no more than the node's name does.
"""

from typing import Final

from msgspec import Struct

from federation.domain.cluster import Node
from federation.domain.events import Taint
from federation.planner.journal import Journal
from federation.planner.taints import REPELLING

HOSTNAME: Final = "kubernetes.io/hostname"
_NONE: Final[frozenset[str]] = frozenset()
_COMMON: Final = frozenset({"cpu", "memory", "pods", "ephemeral-storage"})


class Kind(Struct, frozen=True, cache_hash=True):
    """*devices*: what the node offers beyond what every node does, hugepages and volumes apart."""

    labels: frozenset[tuple[str, str]]
    taints: tuple[Taint, ...]
    devices: frozenset[str]
    named_by_host: bool

    @property
    def tainted(self) -> bool:
        return any(taint.effect in REPELLING for taint in self.taints)


class Kinds:
    """Numbers for kinds. A number that no node bears any more is given again; *journal* has each number as it is given."""

    def __init__(self) -> None:
        self.known: list[Kind | None] = []
        self.journal = Journal()
        self._numbers: dict[Kind, int] = {}
        self._nodes: list[int] = []
        self._spare: list[int] = []

    def number(self, node: Node) -> int:
        """The number of the node's kind, counted as borne by one node more."""
        kind = _kind(node)
        number = self._numbers.get(kind)
        if number is None:
            number = self._numbers[kind] = self._define(kind)
        self._nodes[number] += 1
        return number

    def release(self, number: int) -> None:
        """One node fewer bears it."""
        self._nodes[number] -= 1
        kind = self.known[number]
        if not self._nodes[number] and kind is not None:
            del self._numbers[kind]
            self.known[number] = None
            self._spare.append(number)

    def _define(self, kind: Kind) -> int:
        if self._spare:
            number = self._spare.pop()
            self.known[number] = kind
        else:
            number = len(self.known)
            self.known.append(kind)
            self._nodes.append(0)
        self.journal.note(number)
        return number


def _kind(node: Node) -> Kind:
    labels = node.labels
    named_by_host = labels.get(HOSTNAME) == node.name
    if named_by_host:
        labels = labels.copy()
        del labels[HOSTNAME]
    devices = [name for name in node.allocatable if name not in _COMMON and _is_device(name)]
    return Kind(frozenset(labels.items()), node.taints, frozenset(devices) if devices else _NONE, named_by_host)


def _is_device(name: str) -> bool:
    return "/" in name and not name.startswith(("attachable-volumes", "hugepages"))
