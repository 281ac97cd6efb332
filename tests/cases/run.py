"""Runs a file of cases: `python -m tests.cases.run FILE`, one line a case, status 1 if any failed, 2 if it cannot be read."""

import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.cases.kinds import KINDS

# What a case with a malformed input may raise in the code under test; it fails alone, the others still run.
BROKEN: Final = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
BY_HAND: Final = ("manual", "property")


class Unreadable(Exception):
    """The file is no file of cases; the message says why in one line."""


@dataclass(frozen=True, slots=True)
class Case:
    id: str
    kind: str
    given: Any
    expected: Any
    by_hand: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    word: str
    case: Case
    reason: str = ""

    def __str__(self) -> str:
        line = f"{self.word} {self.case.id}" + (f": {self.reason}" if self.reason else "")
        return line if line.isprintable() else ascii(line)[1:-1]


def main(arguments: Sequence[str]) -> int:
    if len(arguments) != 1:
        print("usage: python -m tests.cases.run FILE", file=sys.stderr)
        return 2
    try:
        cases = read_cases(Path(arguments[0]))
    except Unreadable as error:
        print(error, file=sys.stderr)
        return 2
    verdicts = [judge(case) for case in cases]
    words = Counter(verdict.word for verdict in verdicts)
    for verdict in verdicts:
        print(verdict)
    print(f"{words['PASS']} passed, {words['FAIL']} failed, {words['SKIP']} skipped")
    return 1 if words["FAIL"] else 0


def judge(case: Case) -> Verdict:
    kind = KINDS.get(case.kind)
    if case.by_hand is not None:
        return Verdict("SKIP", case, f"kind {case.kind}, marked {case.by_hand}")
    if kind is None:
        return Verdict("SKIP", case, f"kind {case.kind} is not known here")
    expected = kind.comparable(case.expected)
    try:
        got = kind.got(case.given, case.expected)
    except BROKEN as error:
        return Verdict("FAIL", case, f"expected {shown(expected)} got {type(error).__name__}: {error}")
    if got == expected:
        return Verdict("PASS", case)
    return Verdict("FAIL", case, f"expected {shown(expected)} got {shown(got)}")


def read_cases(path: Path) -> list[Case]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Unreadable(f"{path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"{path}: not JSON: {error}") from error
    try:
        return list(_cases(document))
    except (LookupError, TypeError, AttributeError) as error:
        raise Unreadable(f"{path}: not a file of cases: {type(error).__name__} {error}") from error


def shown(answer: Any) -> str:
    return json.dumps(answer, default=str)


def _cases(document: Any) -> Iterator[Case]:
    if "cases" in document:
        yield from (_case(entry) for entry in document["cases"])
        return
    for entry in document["valid"]:
        expected = {"value": entry["value"], "format": entry["format"]}
        yield Case(f"valid {shown(entry['input'])}", "quantity", {"text": entry["input"]}, expected)
    for text in document["invalid"]:
        yield Case(f"invalid {shown(text)}", "quantity", {"text": text}, None)


def _case(entry: Any) -> Case:
    marks = [mark for mark in BY_HAND if entry.get(mark) or entry.get("check") == mark]
    return Case(
        id=str(entry["id"]),
        kind=str(entry["kind"]),
        given=entry.get("input", {}),
        expected=entry.get("expected") if marks else entry["expected"],
        by_hand=marks[0] if marks else None,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
