"""How answers are written: aligned columns, JSON, YAML, names; ages and amounts as people read them."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import typer

Row = Mapping[str, Any]
_GAP: Final = "   "
_BINARY: Final = (("Pi", 2**50), ("Ti", 2**40), ("Gi", 2**30), ("Mi", 2**20), ("Ki", 2**10))
_COLOURS: Final = {
    "placed": "green",
    "completed": "green",
    "chosen": "green",
    "Ready": "green",
    "running": "green",
    "pending": "yellow",
    "waiting": "yellow",
    "degraded": "yellow",
    "deleting": "yellow",
    "failed": "red",
    "refused": "red",
}


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table. *wide* ones stand only in `-o wide`."""

    title: str
    of: Callable[[Row], object]
    wide: bool = False


def say(text: str) -> None:
    """A line of the answer."""
    typer.echo(text)


def note(text: str) -> None:
    """A line beside the answer: progress, advice."""
    typer.echo(text, err=True)


def as_json(value: object) -> None:
    """The answer as JSON."""
    import json

    say(json.dumps(value, indent=2, ensure_ascii=False))


def as_yaml(value: object) -> None:
    """The answer as YAML."""
    import yaml

    say(yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=120).rstrip("\n"))


def shown(value: object) -> str:
    """*value* as a cell: nothing is `-`, and no control character reaches the terminal."""
    text = "" if value is None else str(value)
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text) or "-"


def table(columns: Sequence[Column], rows: Sequence[Row], *, wide: bool = False, indent: str = "") -> list[str]:
    """Aligned lines under a line of titles."""
    kept = [column for column in columns if wide or not column.wide]
    return aligned([[column.title for column in kept], *cells(kept, rows)], indent)


def cells(columns: Sequence[Column], rows: Sequence[Row]) -> list[list[str]]:
    """What the table shows of each row."""
    return [[shown(column.of(row)) for column in columns] for row in rows]


def aligned(lines: Sequence[Sequence[str]], indent: str = "", widths: Sequence[int] = ()) -> list[str]:
    """Lines whose cells stand under each other, at least *widths* wide."""
    least = [max(map(len, column)) for column in zip(*lines, strict=True)]
    widths = [max(pair) for pair in zip(least, widths, strict=True)] if widths else least
    return [indent + _GAP.join(map(_padded, line, widths)).rstrip() for line in lines]


def _padded(text: str, width: int) -> str:
    colour = _COLOURS.get(text.partition(",")[0]) if _is_coloured() else None
    return (typer.style(text, fg=colour) if colour else text) + " " * (width - len(text))


def _is_coloured() -> bool:
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ


def age_of(moment: object) -> str:
    """How long ago a time of the API was."""
    try:
        then = datetime.fromisoformat(str(moment))
    except ValueError:
        return ""
    return lasting((datetime.now(UTC) - then).total_seconds()) if then.tzinfo else ""


def lasting(seconds: object) -> str:
    """A duration as kubectl writes it: two units at most, less exact the longer it is."""
    if not isinstance(seconds, int | float):
        return ""
    total = max(0, int(seconds))
    minutes, hours, days = total // 60, total // 3600, total // 86_400
    if minutes < 2:
        return f"{total}s"
    if hours < 3:
        return _two(minutes, "m", total % 60, "s") if minutes < 10 else f"{minutes}m"
    if days < 2:
        return _two(hours, "h", minutes % 60, "m") if hours < 8 else f"{hours}h"
    return _two(days, "d", hours % 24, "h") if days < 8 else f"{days}d"


def _two(large: int, unit: str, small: int, part: str) -> str:
    return f"{large}{unit}{small}{part}" if small else f"{large}{unit}"


def human(name: str, quantity: object) -> str:
    """A quantity at a glance: four figures of the largest unit. The exact one stands in JSON and YAML."""
    value = units_of(name, quantity)
    if value is None:
        return str(quantity)
    if name == "cpu":
        return _figures(value / 1000)
    suffix, unit = next(((suffix, unit) for suffix, unit in _BINARY if value >= unit), ("", 1))
    return f"{_figures(value / unit)}{suffix}" if name in ("memory", "ephemeral-storage") else str(value)


def units_of(name: str, quantity: object) -> int | None:
    """A quantity as a whole number: cpu in thousandths, the rest in units; None where it is none."""
    from federation.domain.quantities import InvalidQuantity, millis, units

    try:
        return (millis if name == "cpu" else units)(str(quantity))
    except InvalidQuantity:
        return None


def _figures(value: float) -> str:
    return f"{value:.4g}" if value < 1000 else f"{value:.0f}"
