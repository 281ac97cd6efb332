"""Whatever goes wrong, the invariants hold; and the net that says so is tried itself, with one part taken out at a time."""

import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from federation.cli import app
from federation.simulator.many import play_many, seeds_of
from federation.simulator.run import Result
from tests.simulation import sabotage

HERE = Path(__file__).parent
FAST = 20
MANY = int(os.environ.get("FEDERATION_TEST_SEEDS", "30"))
WORKERS = 2
NET: dict[Callable[[], None], str] = {
    sabotage.offsets_without_compare_and_set: "stale",
    sabotage.commits_without_guards: "cordons",
    sabotage.commits_without_inequalities: "last-unit",
    sabotage.orders_without_preconditions: "late",
}
TRIES = 12


def told(results: list[Result]) -> list[str]:
    return [result.line for result in results if result.violation]


@pytest.mark.timeout(400)
def test_every_scenario_holds_in_the_first_seeds():
    results = list(play_many(seeds_of("", 1, FAST), workers=WORKERS))

    assert not told(results)
    assert all(result.steps >= 200 and sum(result.fired.values()) >= 3 for result in results)


@pytest.mark.slow
@pytest.mark.timeout(1_800)
def test_every_scenario_holds_in_many_seeds():
    results = list(play_many(seeds_of("", 1_001, MANY), workers=WORKERS))

    assert not told(results)
    assert all(result.steps >= 200 and sum(result.fired.values()) >= 3 for result in results)


def test_a_seed_has_one_history_whatever_process_plays_it():
    [first] = play_many([("faults-all", 11)])
    again, other = play_many([("faults-all", 11), ("faults-all", 12)], workers=1)

    assert first.digest == again.digest
    assert first.digest != other.digest


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", NET, ids=lambda part: part.__name__)
def test_without_a_part_of_the_net_a_seed_fails_that_holds_with_it(part: Callable[[], None]):
    seeds = seeds_of(str(HERE / f"{NET[part]}.yaml"), 1, TRIES)

    with closing(play_many(seeds, workers=WORKERS, prepare=part)) as results:
        broken = next((result for result in results if result.violation), None)

    assert broken is not None
    assert not told(list(play_many([(broken.scenario, broken.seed)])))


def test_a_seed_that_fails_says_where_and_how_to_see_it_again():
    result = Result(scenario="storm", seed=7, steps=31, violation="1: a commit left an excess")

    assert result.line == "seed 7 scenario storm step 31: invariant 1: a commit left an excess"


def test_a_scenario_that_is_not_there_is_refused_with_those_that_are():
    done = CliRunner().invoke(app, ["simulate", "nosuch"])

    assert done.exit_code == 1
    assert "faults-all, members-fail, steady, storm" in done.output
