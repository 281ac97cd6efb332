"""How full clusters are: a bar for each resource, used and held against what is known."""

import sys
from collections.abc import Iterable
from typing import Any, Final

from federation.cli.output import Row, aligned, human, shown, units_of

_CELLS: Final = 24
_BLOCKS: Final = "█▒·"
_PLAIN: Final = "#+."
_FIRST: Final = ("cpu", "memory")
_TITLES: Final = ["CLUSTER", "RESOURCE", "KNOWN", "USED", "HELD", "FREE", "TAKEN", "USE"]


def usage_lines(clusters: Iterable[Row], pool: Row | None, *, wide: bool) -> list[str]:
    """Clusters, then the pool; without *wide* only cpu, memory and devices."""
    parts = [(str(cluster["name"]), cluster) for cluster in clusters]
    parts += [("(pool)", pool)] if pool is not None else []
    lines = [_TITLES]
    for name, part in parts:
        for resource, figures in sorted(part["resources"].items(), key=_order):
            if wide or resource in _FIRST or "/" in resource:
                lines.append(_line(name, resource, figures))
    return aligned(lines)


def _line(name: str, resource: str, figures: dict[str, Any]) -> list[str]:
    known, used, held = (units_of(resource, figures[part]) or 0 for part in ("known", "used", "held"))
    taken = f"{100 * (used + held) // known}%" if known else "-"
    parts = [human(resource, figures[part]) for part in ("known", "used", "held", "free")]
    return [shown(name), shown(resource), *map(shown, parts), taken, bar(known, used, held)]


def bar(known: int, used: int, held: int) -> str:
    """What is used, then what is held, then what is free; what is over the known is cut."""
    full, half, empty = _BLOCKS if _can_draw() else _PLAIN
    if known <= 0:
        return ""
    used_cells = min(_CELLS, -(-used * _CELLS // known))
    held_cells = min(_CELLS - used_cells, -(-held * _CELLS // known))
    return full * used_cells + half * held_cells + empty * (_CELLS - used_cells - held_cells)


def _can_draw() -> bool:
    return "utf" in (sys.stdout.encoding or "").lower()


def _order(item: tuple[str, Any]) -> tuple[int, str]:
    name = item[0]
    return (_FIRST.index(name) if name in _FIRST else len(_FIRST)), name
