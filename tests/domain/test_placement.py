"""What a placement claims and holds, step by step."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from federation.domain.placement import Ask, AskKind, Placement, Seen
from tests.domain.builders_core import NOW, ask, gone_ask, placed, seen

LATER = NOW + 60_000


def observed(placement: Placement, **fields: object) -> Placement:
    return placement.observing(seen(**fields), LATER)  # type: ignore[arg-type]


def test_a_fresh_placement_holds_all_that_it_asks_for():
    placement = placed(3)

    assert (placement.claim, placement.held, placement.wanted) == (3, 3, 3)
    assert placement.held_amounts() == {"cpu": 3000}


def test_what_is_bound_is_held_no_more():
    placement = placed(3).with_bound("n-0", 2, LATER)

    assert (placement.claim, placement.bound, placement.held) == (3, 2, 1)
    assert placement.held_amounts() == {"cpu": 1000}


def test_a_pod_that_goes_is_held_again_on_the_node_that_it_left():
    placement = placed(1).with_bound("n-0", 1, NOW).with_bound("n-0", -1, LATER)

    assert (placement.held, placement.holds) == (1, {"n-0": 1})
    assert placement.held_since_ms == LATER


def test_two_versions_in_flight_claim_the_larger():
    placement = placed(3).asking(ask(2, 5)).asking(ask(3, 2))

    assert (placement.claim, placement.wanted) == (5, 2)


def test_a_version_in_force_supersedes_those_before_it():
    placement = placed(5).asking(ask(2, 2))
    in_force = observed(placement, version=2, observed=True, desired=2, live=2)

    assert (in_force.claim, len(in_force.asks)) == (2, 1)


def test_a_version_that_controllers_have_not_observed_supersedes_nothing():
    placement = placed(5).asking(ask(2, 2))
    received = observed(placement, version=2, observed=False, desired=2, live=2)

    assert received.claim == 5


def test_more_live_pods_than_asked_are_claimed_and_supersede_nothing():
    placement = placed(5).asking(ask(2, 2))
    crowded = observed(placement, version=2, observed=True, desired=2, live=4)

    assert (crowded.claim, len(crowded.asks)) == (5, 2)


def test_pods_beyond_every_version_are_claimed_while_they_live():
    placement = observed(placed(2), version=1, observed=True, desired=2, live=4)

    assert (placement.claim, placement.held) == (4, 4)


def test_an_observation_of_a_version_never_asked_supersedes_nothing():
    placement = observed(placed(3), version=9, observed=True, desired=1, live=1)

    assert placement.claim == 3


def test_a_released_placement_claims_and_holds_nothing():
    ended = placed(2).asking(gone_ask(2, order=7))
    released = observed(ended, gone=True, done=7)

    assert released.released
    assert (released.claim, released.held, released.holds, released.asks) == (0, 0, {}, ())


def test_deciding_the_end_does_not_count_bound_pods_twice():
    running = observed(placed(4).with_bound("n-0", 4, NOW), version=1, observed=True, desired=4, live=4)
    ended = running.asking(gone_ask(2))

    assert ended.held_amounts() == {}


def test_an_ended_placement_may_be_asked_for_again():
    again = placed(2).asking(gone_ask(2, order=7)).asking(ask(3, 4))

    assert not again.ended
    assert (again.claim, again.wanted) == (4, 4)


def test_the_end_that_a_new_ask_revoked_is_forgotten_once_that_is_in_force():
    again = placed(2).asking(gone_ask(2, order=7)).asking(ask(3, 4, order=8))
    in_force = observed(again, version=3, observed=True, desired=4, live=1)

    assert [each.version for each in in_force.asks] == [3]


def test_a_rollout_holds_its_surge_and_the_growth_of_bound_pods():
    running = observed(placed(3).with_bound("n-0", 3, NOW), version=1, observed=True, desired=3, live=3)
    rolling = running.asking(ask(2, 3, surge=1, revision="2", cpu=1500))

    assert (rolling.claim, rolling.held) == (4, 1)
    assert rolling.held_amounts() == {"cpu": 1500 + 3 * 500}


def test_a_resource_that_shrinks_is_held_at_its_old_size_until_the_rollout_is_over():
    running = observed(placed(3).with_bound("n-0", 3, NOW), version=1, observed=True, desired=3, live=3)
    rolling = running.asking(ask(2, 3, surge=1, revision="2", cpu=250))

    assert rolling.request == {"cpu": 1000}


def test_a_job_claims_no_more_than_it_has_left_to_complete():
    job = replace(placed(4), completions=10).settled("", NOW)
    late = observed(job, version=1, observed=True, desired=4, live=2, succeeded=8)

    assert (job.claim, late.claim) == (4, 2)


@pytest.mark.parametrize("condition", ["Complete", "Failed"])
def test_a_finished_job_claims_only_pods_that_still_live(condition: str):
    job = replace(placed(4), completions=10)
    over = observed(job, version=1, observed=True, live=1, condition=condition)

    assert over.finished
    assert over.claim == 1


def test_what_the_caller_no_longer_runs_is_claimed_at_its_size_until_it_is_gone():
    running = replace(placed(3), seen=Seen(live=3)).with_bound("n-0", 1, NOW)
    left = running.left_by_caller().settled("", LATER)

    assert left.ended
    assert (left.held, left.held_amounts()) == (2, {"cpu": 2000})
    assert observed(left, live=1).claim == 1
    assert observed(left, live=0).released


def test_what_the_caller_never_ran_is_given_back_at_once():
    left = placed(3).left_by_caller()

    assert left.released
    assert (left.held, left.holds) == (0, {})


def test_numbering_dates_the_dispatch_of_its_version_only():
    placement = placed(3, order=0).asking(ask(2, 4)).numbered(2, 17, LATER)

    assert [each.order for each in placement.asks] == [0, 17]
    assert placement.dispatched_ms == LATER


def test_recalling_takes_back_what_was_never_sent():
    placement = placed(3, order=5).asking(ask(2, 9)).recalled()

    assert [each.version for each in placement.asks] == [1]


STEPS = st.one_of(
    st.tuples(st.just("bound"), st.sampled_from(["n-0", "n-1", "n-2"]), st.integers(-3, 3)),
    st.tuples(st.just("ask"), st.integers(0, 5), st.integers(0, 2)),
    st.tuples(st.just("floor"), st.just(0), st.just(0)),
    st.tuples(st.just("end"), st.just(0), st.just(0)),
    st.tuples(st.just("see"), st.integers(0, 6), st.integers(0, 6)),
    st.tuples(st.just("gone"), st.integers(0, 9), st.just(0)),
)


def taken(placement: Placement, step: tuple[str, object, object], order: int) -> Placement:
    """One step of the hub or the world; where it adds a claim, holds are settled as the commit does."""
    kind, first, second = step
    version = placement.version + 1
    match kind:
        case "bound":
            assert isinstance(first, str)
            assert isinstance(second, int)
            return placement.with_bound(first, max(second, -placement.bound), NOW)
        case "ask":
            assert isinstance(first, int)
            asking = placement.asking(ask(version, first, order, surge=second))
        case "floor":
            asking = placement.asking(Ask(version, placement.bound, AskKind.FLOOR, order, 0, "1", {"cpu": 1000}))
        case "end":
            asking = placement.asking(gone_ask(version, order))
        case "see":
            fields = {"version": first, "live": second, "desired": first, "updated": second, "observed": True}
            return placement.observing(seen(**fields), NOW)
        case _:
            return placement.observing(seen(gone=True, done=first), NOW)
    return asking.holding({"n-1": 1} if asking.held > placement.held else {}, NOW, placement.held)


@given(st.lists(STEPS, max_size=30))
def test_held_is_what_the_claim_leaves_and_its_names_sum_to_it(steps: list[tuple[str, object, object]]):
    placement = placed(2)

    for order, step in enumerate(steps, 2):
        placement = taken(placement, step, order)

        assert placement.held == max(0, placement.claim - placement.bound)
        assert sum(placement.holds.values()) == placement.held
        assert all(count > 0 for count in placement.holds.values())


@given(st.lists(STEPS, max_size=30))
def test_a_claim_is_never_below_the_pods_last_seen_alive(steps: list[tuple[str, object, object]]):
    placement = placed(2)

    for order, step in enumerate(steps, 2):
        placement = taken(placement, step, order)

        assert placement.released or placement.claim >= placement.seen.live
