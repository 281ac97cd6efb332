"""The conformance runner: what it prints, how it ends, and that the shared examples pass."""

import json
from pathlib import Path

import pytest

from tests.cases.run import main

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "cases"


def write_cases(folder: Path, *cases: dict[str, object]) -> str:
    path = folder / "cases.json"
    path.write_text(json.dumps({"cases": cases}))
    return str(path)


def make_case(name: str, expected: object, **changes: object) -> dict[str, object]:
    given = {"replicas": 12, "available": {"c1": 6, "c2": 8, "c3": 10}, "previous": {}}
    return {"id": name, "kind": "divide.dynamic_weight", "input": given, "expected": expected} | changes


@pytest.mark.parametrize("name", ["division.json", "quantity_vectors.json"])
def test_the_shared_examples_pass(name: str, capsys: pytest.CaptureFixture[str]):
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"{path} is not here")

    status = main([str(path)])

    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith(("FAIL", "SKIP"))] == []
    assert lines[-1] == f"{len(lines) - 1} passed, 0 failed, 0 skipped"
    assert status == 0


def test_each_case_has_its_line_and_a_failure_its_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = write_cases(
        tmp_path,
        make_case("right", {"c1": 3, "c2": 4, "c3": 5, "c4": 0}),
        make_case("wrong", None),
        make_case("unknown", {}, kind="divide.by_magic"),
        make_case("by-hand", {}, check="manual"),
        make_case("by-property", {}, property=True),
        make_case("broken", {}, input={}),
    )

    status = main([path])

    assert capsys.readouterr().out.splitlines() == [
        "PASS right",
        'FAIL wrong: expected null got {"c1": 3, "c2": 4, "c3": 5}',
        "SKIP unknown: kind divide.by_magic is not known here",
        "SKIP by-hand: kind divide.dynamic_weight, marked manual",
        "SKIP by-property: kind divide.dynamic_weight, marked property",
        "FAIL broken: expected {} got KeyError: 'replicas'",
        "1 passed, 2 failed, 3 skipped",
    ]
    assert status == 1


@pytest.mark.parametrize(
    ("kind", "given", "expected"),
    [
        (
            "divide.aggregated",
            {"replicas": 8, "available": {"a": 4, "b": 0}, "previous": {"b": 6}, "fresh": True},
            {"b": 5, "a": 3},
        ),
        ("divide.duplicated", {"replicas": 2, "clusters": ["a", "b"]}, {"a": 2, "b": 2}),
        ("divide.static_weight", {"replicas": 3, "weights": None, "clusters": ["a", "b"]}, {"a": 2, "b": 1}),
        ("divide.webster", {"seats": 1, "votes": {"a": 1}, "initial": {"gone": 2}}, {"a": 1, "gone": 2}),
    ],
)
def test_every_kind_of_division_is_taken(kind, given, expected, tmp_path, capsys):
    path = write_cases(tmp_path, make_case("one", expected, kind=kind, input=given))

    assert main([path]) == 0, capsys.readouterr().out


def test_quantities_are_named_by_what_they_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "quantities.json"
    path.write_text(
        json.dumps({"valid": [{"input": "100m", "value": "0.1", "format": "DecimalSI"}], "invalid": ["1i", "1"]})
    )

    status = main([str(path)])

    assert capsys.readouterr().out.splitlines() == [
        'PASS valid "100m"',
        'PASS invalid "1i"',
        'FAIL invalid "1": expected null got {"value": "1", "format": "DecimalSI"}',
        "2 passed, 1 failed, 0 skipped",
    ]
    assert status == 1


@pytest.mark.parametrize("text", [None, "{", "[]", "3", '{"cases": [3]}', '{"cases": [{"id": "x"}]}', "[" * 100_000])
def test_a_file_that_cannot_be_read_is_one_line_and_status_2(text, tmp_path, capsys):
    path = tmp_path / "cases.json"
    if text is not None:
        path.write_text(text)

    status = main([str(path)])

    output = capsys.readouterr()
    assert status == 2
    assert output.out == ""
    assert len(output.err.splitlines()) == 1
    assert output.err.startswith(f"{path}: ")


def test_it_takes_one_file(capsys: pytest.CaptureFixture[str]):
    assert main([]) == 2
    assert capsys.readouterr().err == "usage: python -m tests.cases.run FILE\n"
