"""Every benchmark in a tiny configuration: one well-formed line, under the name that the specification gives it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.registry import BARS
from benchmarks.report import percentile, rate

ROOT = Path(__file__).parents[2]
NAMES = {
    "ingest.sqlite",
    "ingest.postgresql",
    "freshness",
    "decide",
    "plan.one",
    "plan.hundred",
    "plan.wide",
    "schedule.postgresql",
    "loop",
    "cold",
    "memory",
    "rest.get",
    "fleet",
}
ON_REAL_PARTS = {"ingest.sqlite", "ingest.postgresql", "freshness", "schedule.postgresql", "loop"}
WITH_YARDSTICK = {"ingest.sqlite", "ingest.postgresql", "decide", "schedule.postgresql", "cold", "rest.get"}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", "--tiny", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)


def line_of(name: str) -> dict[str, Any]:
    done = run(name)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    return json.loads(line)


def assert_well_formed(name: str, line: dict[str, Any]) -> None:
    assert list(line) == ["name", "value", "unit", "yardstick", "ratio", "conditions"]
    assert line["name"] == name
    assert line["unit"] == BARS[name].unit
    if line["value"] is None:
        assert line["conditions"].startswith("unavailable: ")
        return
    assert line["value"] > 0
    assert (line["yardstick"] is not None) == (line["ratio"] is not None) == (name in WITH_YARDSTICK)


def test_the_bars_are_those_of_the_specification():
    assert set(BARS) == NAMES


@pytest.mark.parametrize("name", sorted(NAMES - ON_REAL_PARTS))
def test_a_benchmark_prints_one_line_and_nothing_else(name: str):
    line = line_of(name)

    assert_well_formed(name, line)


@pytest.mark.slow
@pytest.mark.kafka
@pytest.mark.postgres
@pytest.mark.parametrize("name", sorted(ON_REAL_PARTS))
def test_a_benchmark_on_real_parts_prints_one_line_or_says_what_is_missing(name: str):
    line = line_of(name)

    assert_well_formed(name, line)


def test_several_benchmarks_print_a_line_each():
    done = run("memory", "plan.one")

    assert [json.loads(line)["name"] for line in done.stdout.splitlines()] == ["memory", "plan.one"]


def test_a_name_that_no_benchmark_has_is_wrong_usage():
    done = run("plan.two")

    assert (done.returncode, done.stdout) == (2, "")
    assert "plan.two" in done.stderr


def test_the_ratio_is_the_median_of_the_ratios_of_neighbouring_rounds():
    line = rate("x", "events/s", [10, 40, 30], [20, 40, 120], "")

    assert (line.value, line.yardstick, line.ratio) == (30, 40, 0.5)


def test_the_percentile_is_a_value_that_so_many_do_not_pass():
    assert percentile([3, 1, 2], 0.5) == 2
    assert percentile(list(range(100)), 0.99) == 99
