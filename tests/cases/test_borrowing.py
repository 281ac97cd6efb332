"""The shared examples of borrowing pass, and other files of that shape are judged by the same rules."""

import json
from pathlib import Path

import pytest

from tests.cases.run import main

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "cases" / "borrowing.json"


def make_tree(**changes: object) -> dict[str, object]:
    quotas = {"default/cpu": {"nominal": 4, "borrowing_limit": None, "lending_limit": None}}
    return {
        "nodes": [
            {"name": "a", "kind": "queue", "parent": "all", "quotas": quotas, "weight": 0},
            {"name": "b", "kind": "queue", "parent": "all", "quotas": quotas, "weight": 1},
        ],
        "usage": {"a": {"default/cpu": 6}},
    } | changes


def run(folder: Path, kind: str, given: object, expected: object) -> int:
    path = folder / "cases.json"
    path.write_text(json.dumps({"cases": [{"id": "one", "kind": kind, "input": given, "expected": expected}]}))
    return main([str(path)])


def test_the_shared_examples_of_borrowing_pass(capsys: pytest.CaptureFixture[str]):
    if not SHARED.exists():
        pytest.skip(f"{SHARED} is not here")

    status = main([str(SHARED)])

    lines = capsys.readouterr().out.splitlines()
    assert status == 0
    assert all("marked" in line for line in lines if line.startswith("SKIP"))
    assert len([line for line in lines if line.startswith("PASS")]) >= 33


def test_what_an_expectation_names_is_compared_and_what_it_leaves_out_is_not(tmp_path, capsys):
    kind = "quota_tree.available"

    assert run(tmp_path, kind, make_tree(), {"available": {"b": {"default/cpu": 2}}}) == 0
    assert run(tmp_path, kind, make_tree(), {"available": {"b": {"default/cpu": 3}}}) == 1
    assert run(tmp_path, kind, make_tree(), {"available": {"b": {"default/cpu": 0}}}) == 1
    capsys.readouterr()


@pytest.mark.parametrize("infinite", [2**63 - 1, None])
def test_what_is_infinite_may_be_written_as_null_or_as_the_largest_number(infinite, tmp_path, capsys):
    expected = {"shares": {"a": {"value": infinite, "dominant": "cpu", "borrowing": True}}}

    assert run(tmp_path, "fair_share.drs", make_tree(), expected) == 0, capsys.readouterr().out


def test_edges_are_judged_in_turn_and_what_hangs_below_a_circle_is_refused(tmp_path, capsys):
    edges = {"cohorts": [["a", "b"], ["b", "a"], ["c", "a"], ["b", "root"], ["c", "a"]]}

    assert run(tmp_path, "quota_tree.cycle", edges, {"accepted": [True, False, False, True, True]}) == 0
    assert "PASS" in capsys.readouterr().out
