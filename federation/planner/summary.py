"""The sentence that a person reads first, and the reasons of what waits."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from federation.planner.candidates import Case
from federation.planner.dividing import Division, least_of_use

_MOST_SHOWN: Final = 8
_MOST_REASONS: Final = 5


def placed_summary(case: Case, chosen: Sequence[tuple[int, int]], placed: int, wanted: int) -> str:
    """Where the replicas are to be, the largest first, and who would have been next; *chosen*: (index, replicas)."""
    names, text = case.columns.names, f"{placed} of {wanted} replicas"
    if chosen:
        largest = sorted(chosen, key=lambda entry: -entry[1])[:_MOST_SHOWN] if len(chosen) > 1 else chosen
        shown = ", ".join([f"{names[at]} {replicas}" for at, replicas in largest])
        more = f" and {len(chosen) - _MOST_SHOWN} more" if len(chosen) > _MOST_SHOWN else ""
        text = f"{text} in {plural(len(chosen), 'cluster')}: {shown}{more}"
    if placed < wanted:
        text = f"{text}; {wanted - placed} wait"
    return text + _runner_up(case, chosen)


def waiting_summary(case: Case, division: Division, words: Counter[str], change: str) -> str:
    """Who refused and why, the most that would have fitted, and the smallest change that would have helped."""
    kept = int(case.columns.previous.sum())
    text = f"{kept} of {max(case.total, kept)} placed"
    if words:
        counted = ", ".join(f"{word}: {count}" for word, count in sorted(words.items()))
        text += f": {plural(sum(words.values()), 'cluster')} refused ({counted})"
    elif not case.columns.names:
        text += ": no cluster is known"
    if division.reason:
        text += f"; {division.reason}"
    if case.columns.fits.any():
        at = int(case.columns.fits.argmax())
        text += f"; most that fits: {case.columns.fits[at]} in {case.columns.names[at]}"
    return f"{text}; {change}" if change else text


def waiting_reasons(case: Case, division: Division, details: Mapping[str, str]) -> tuple[str, ...]:
    """What was asked and what there is, then the words of the first clusters."""
    if division.short:
        first = [f"{name} wants {wants}, fits {fits}" for name, wants, fits in division.short]
    elif division.reason:
        first = [division.reason]
    else:
        first = [f"wants {case.total}, fits {division.possible}"]
    return (*first[:_MOST_REASONS], *[f"{name}: {details[name]}" for name in sorted(details)[:_MOST_REASONS]])


def partial_reasons(division: Division, placed: int, wanted: int) -> tuple[str, ...]:
    """What stays as a remainder."""
    short = tuple(f"{name} wants {wants}, fits {fits}" for name, wants, fits in division.short[:_MOST_REASONS])
    return (f"wants {wanted}, fits {placed}; {wanted - placed} wait", *short)


def smallest_change(case: Case, division: Division, refused: Mapping[str, int]) -> str:
    """The smallest change that would have helped: *refused* says what fits in clusters that take nothing for now."""
    missing = least_of_use(case.spec, case.total) - division.possible
    for name in sorted(refused) if not (case.spec.single or case.spec.rules.spread) else ():
        if refused[name] >= missing > 0:
            return f"would fit if {name} were not {case.constraints.refused[name][0]}"
    return f"would fit with {plural(division.possible, 'replica')}" if division.possible else ""


def plural(count: int, noun: str) -> str:
    """*count* with its noun."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _runner_up(case: Case, chosen: Sequence[tuple[int, int]]) -> str:
    """The cluster with most room among those not used."""
    if not chosen or len(chosen) == len(case.columns.names):
        return ""
    fits = case.columns.fits.copy()
    for at, _ in chosen:
        fits[at] = 0
    at = int(fits.argmax())
    return f"; runner-up {case.columns.names[at]} (fits {fits[at]})" if fits[at] else ""
