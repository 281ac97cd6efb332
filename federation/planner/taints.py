"""Which taints keep a pod away, for nodes and for clusters alike."""

from collections.abc import Iterable
from typing import Final

from federation.domain.events import Taint
from federation.domain.workload import Toleration

REPELLING: Final = frozenset({"NoSchedule", "NoExecute"})


def untolerated(taints: Iterable[Taint], tolerations: Iterable[Toleration]) -> Taint | None:
    """The first taint that repels and that nothing tolerates."""
    for taint in taints:
        if taint.effect in REPELLING and not any(_tolerates(toleration, taint) for toleration in tolerations):
            return taint
    return None


def shown(taint: Taint) -> str:
    """As `kubectl taint` writes it."""
    value = f"={taint.value}" if taint.value else ""
    return f"{taint.key}{value}:{taint.effect}"


def _tolerates(toleration: Toleration, taint: Taint) -> bool:
    if toleration.effect and toleration.effect != taint.effect:
        return False
    if toleration.operator == "Exists":
        return toleration.key in ("", taint.key)
    return toleration.key == taint.key and toleration.value == taint.value
