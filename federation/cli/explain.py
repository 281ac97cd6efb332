"""Why a decision came out as it did, in words and a row for each cluster."""

from collections.abc import Mapping
from typing import Any, Final

from federation.cli.output import Column, Row, age_of, lasting, shown, table

_ORDER: Final = {"chosen": 0, "feasible": 1, "refused": 2}
COLUMNS: Final = (
    Column("CLUSTER", lambda row: row["cluster"]),
    Column("VERDICT", lambda row: row["verdict"]),
    Column("WANTED", lambda row: row.get("wanted", 0)),
    Column("FITS", lambda row: row.get("fits", 0)),
    Column("PREVIOUS", lambda row: row.get("previous", 0)),
    Column("SCORE", lambda row: row.get("score", 0), wide=True),
    Column("AGE", lambda row: lasting(row.get("ageSeconds"))),
    Column("REASON", lambda row: row.get("reason")),
)


def explanation_lines(explanation: Mapping[str, Any], *, wide: bool = False) -> list[str]:
    """The summary, what was decided when, the clusters with the chosen first, and the reasons for what is short."""
    lines = [shown(explanation["summary"])] if explanation.get("summary") else []
    lines += [_heading(explanation)] if explanation.get("decision") else []
    verdicts = sorted(explanation.get("clusters", ()), key=_order)
    if verdicts:
        lines += ["", *table(COLUMNS, verdicts, wide=wide)]
    reasons = [reason for reason in explanation.get("reasons", ()) if reason != explanation.get("summary")]
    return [*lines, *(["", *bullets(reasons)] if reasons else [])]


def reason_in(explanation: Mapping[str, Any], cluster: str) -> str:
    """What an explanation says of one cluster."""
    found = (row.get("reason", "") for row in explanation.get("clusters", ()) if row["cluster"] == cluster)
    return str(next(found, ""))


def bullets(reasons: list[str]) -> list[str]:
    """Reasons, one a line."""
    return [f"- {shown(reason)}" for reason in reasons]


def _heading(explanation: Mapping[str, Any]) -> str:
    version, decision = explanation.get("version"), explanation["decision"]
    age = age_of(explanation.get("at"))
    return shown(f"{explanation['outcome']}, version {version}, decided {age} ago (decision {decision})")


def _order(row: Row) -> tuple[int, str]:
    return _ORDER.get(row["verdict"], len(_ORDER)), row["cluster"]
