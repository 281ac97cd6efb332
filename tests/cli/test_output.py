"""Ages, amounts and columns as people read them."""

import pytest

from federation.cli.kinds import Kind, Named, named
from federation.cli.output import aligned, human, lasting, shown
from federation.cli.top import bar


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (-3, "0s"),
        (2.9, "2s"),
        (119, "119s"),
        (120, "2m"),
        (150, "2m30s"),
        (600, "10m"),
        (10_799, "179m"),
        (10_800, "3h"),
        (11_100, "3h5m"),
        (28_800, "8h"),
        (172_799, "47h"),
        (172_800, "2d"),
        (180_000, "2d2h"),
        (691_200, "8d"),
        (None, ""),
    ],
)
def test_a_duration_gets_coarser_as_it_grows(seconds: float | None, text: str):
    assert lasting(seconds) == text


@pytest.mark.parametrize(
    ("name", "quantity", "text"),
    [
        ("cpu", "250m", "0.25"),
        ("cpu", "63770m", "63.77"),
        ("cpu", "1436230m", "1436"),
        ("memory", "0", "0"),
        ("memory", "512", "512"),
        ("memory", "1536Mi", "1.5Gi"),
        ("memory", "9000Ti", "8.789Pi"),
        ("memory", "2000Pi", "2000Pi"),
        ("nvidia.com/gpu", "8", "8"),
        ("cpu", "lots", "lots"),
    ],
)
def test_an_amount_is_shown_in_its_largest_unit(name: str, quantity: str, text: str):
    assert human(name, quantity) == text


def test_a_cell_never_carries_control_characters():
    assert shown("a\x1b[31m\nb\u202e") == "a\\x1b[31m\\nb\\u202e"


def test_columns_stand_under_each_other_without_trailing_blanks():
    assert aligned([["A", "LONG", "C"], ["wide", "b", ""]], indent="  ") == ["  A      LONG   C", "  wide   b"]


@pytest.mark.parametrize(
    ("known", "used", "held", "expected"),
    [
        (24, 12, 6, "#" * 12 + "+" * 6 + "." * 6),
        (24, 0, 0, "." * 24),
        (1000, 1, 1, "#+" + "." * 22),
        (10, 30, 5, "#" * 24),
        (10, 5, 30, "#" * 12 + "+" * 12),
        (0, 5, 0, ""),
    ],
)
def test_a_bar_never_leaves_its_frame(monkeypatch, known: int, used: int, held: int, expected: str):
    monkeypatch.setattr("federation.cli.top._can_draw", lambda: False)

    assert bar(known, used, held) == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["workloads"], Named(Kind.WORKLOAD)),
        (["cluster", "east"], Named(Kind.CLUSTER, "east")),
        (["node/n-1"], Named(Kind.NODE, "n-1")),
        (["Nodes"], Named(Kind.NODE)),
        (["web"], Named(Kind.WORKLOAD, "web")),
    ],
)
def test_words_name_a_kind_and_perhaps_one_of_it(words: list[str], expected: Named):
    assert named(words, Kind.WORKLOAD) == expected
