"""Sending orders: numbered when they leave, in order, again with the same number, until their agent has confirmed them."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from federation.domain.errors import Unavailable
from federation.domain.events import ActionFinished, ClusterLeft, ResyncStarted
from federation.domain.records import OutboxRow
from federation.ports import Message
from federation.services.dispatch import (
    PENDING_RESYNCS,
    REPEAT_AFTER_MS,
    ask_for_resyncs,
    dispatch,
    repeat,
)
from tests.services.hub import Agent, Hub, hub

RESYNC = "federation.resync.requested.v1"


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Hub]:
    async with hub(tmp_path) as started:
        yield started


class LosesAnswers:
    """A log that appends and whose answer is lost on the way, as often as told."""

    def __init__(self, here: Hub, times: int) -> None:
        self._log, self._times = here.log, times

    async def append(self, messages: Sequence[Message]) -> None:
        await self._log.append(messages)
        if self._times:
            self._times -= 1
            raise Unavailable("the answer was lost")


async def joined(here: Hub, *names: str) -> list[Agent]:
    agents = [here.agent(name) for name in names]
    for agent in agents:
        agent.join(agent.node(cores=8))
    await here.fold()
    return agents


async def queued(here: Hub, *rows: OutboxRow) -> None:
    async with here.store.transaction() as tx:
        await tx.enqueue(rows)


def row(cluster: str = "east", placement: str = "p", **fields: object) -> OutboxRow:
    body = {"placement": placement, "version": 1}
    return OutboxRow(
        cluster=cluster, placement=placement, version=1, type="federation.placement.unwanted.v1", doc=body, **fields
    )


def numbers(orders: list[dict[str, int]]) -> list[int]:
    return [order["order"] for order in orders]


async def test_4_1_a_row_that_waits_has_no_number_and_gets_it_at_dispatch(here: Hub):
    await joined(here, "east")
    await here.create(replicas=2)
    await here.cycle()
    (before,) = await here.waiting()
    (order,) = await here.dispatch()

    placement = await here.placement()
    assert before.number == 0
    assert (order["order"], order["generation"], order["replicas"]) == (1, 1, 2)
    assert (placement.asks[0].order, placement.dispatched_ms) == (1, here.clock.now_ms())


async def test_4_1_an_order_is_the_whole_desired_state_at_a_version(here: Hub):
    await joined(here, "east")
    await here.create(replicas=2)
    (order,) = await here.decide()

    (placement,) = await here.placements()
    assert set(order) >= {"placement", "version", "team", "namespace", "name", "revision", "replicas", "manifest"}
    assert (order["placement"], order["version"], order["floorAtBound"]) == (placement.id, 1, False)
    assert (order["team"], order["namespace"], order["name"]) == ("default", "default", "web")


async def test_4_1_orders_are_numbered_for_each_cluster_in_the_order_in_which_they_were_decided(here: Hub):
    await joined(here, "east", "west")
    await queued(here, row("east", "a"), row("west", "b"), row("east", "c"))
    await here.dispatch()
    await queued(here, row("east", "d"))
    await here.dispatch()

    assert [(each["order"], each["placement"]) for each in here.orders("east")] == [(1, "a"), (2, "c"), (3, "d")]
    assert [(each["order"], each["placement"]) for each in here.orders("west")] == [(1, "b")]


async def test_4_1_what_is_confirmed_is_not_repeated_and_its_row_goes(here: Hub):
    (east,) = await joined(here, "east")
    await queued(here, row(placement="a"), row(placement="b"))
    await here.dispatch()
    east.tell(east.beat(done=1))
    await here.fold()
    here.clock.advance(REPEAT_AFTER_MS / 1000 + 1)
    repeated = await repeat(here.store, here.log, here.clock, here.ids)

    async with here.store.transaction() as tx:
        left = await tx.rows_after("east", 0, 10)
    assert (repeated, numbers(here.orders())) == (1, [1, 2, 2])
    assert [each.number for each in left] == [2]


async def test_4_1_an_order_repeated_is_the_same_order_with_the_same_number(here: Hub):
    await joined(here, "east")
    await here.create(replicas=2)
    await here.decide()
    for _ in range(2):
        here.clock.advance(REPEAT_AFTER_MS / 1000 + 1)
        await repeat(here.store, here.log, here.clock, here.ids)

    first, second, third = here.orders()
    assert first == second == third


async def test_4_1_nothing_is_repeated_before_its_time(here: Hub):
    await joined(here, "east")
    await queued(here, row())
    await here.dispatch()
    here.clock.advance(REPEAT_AFTER_MS / 1000 - 1)

    assert await repeat(here.store, here.log, here.clock, here.ids) == 0


async def test_4_1_action_finished_confirms_nothing(here: Hub):
    (east,) = await joined(here, "east")
    await here.create(replicas=1)
    await here.decide()
    placement = await here.placement()
    east.tell(
        ActionFinished(cluster="east", order=1, placement=placement.id, generation=1, version=1, outcome="applied")
    )
    await here.fold()
    here.clock.advance(REPEAT_AFTER_MS / 1000 + 1)

    assert await repeat(here.store, here.log, here.clock, here.ids) == 1
    assert (await here.placement()).claim == 1


async def test_4_1_a_hub_that_dies_between_numbering_and_sending_sends_the_same_numbers(here: Hub):
    await joined(here, "east")
    await queued(here, row(placement="a"), row(placement="b"))
    here.log.stop()
    with pytest.raises(Unavailable):
        await dispatch(here.store, here.log, here.clock, here.ids)
    here.log.start()
    await queued(here, row(placement="c"))
    await here.dispatch()

    assert [(each["order"], each["placement"]) for each in here.orders()] == [(1, "a"), (2, "b"), (3, "c")]


async def test_4_5_an_answer_that_is_lost_sends_the_same_orders_again_and_no_others(here: Hub):
    await joined(here, "east")
    await queued(here, row(placement="a"), row(placement="b"))
    log = LosesAnswers(here, 1)
    with pytest.raises(Unavailable):
        await dispatch(here.store, log, here.clock, here.ids)  # type: ignore[arg-type]
    await dispatch(here.store, log, here.clock, here.ids)  # type: ignore[arg-type]

    assert numbers(here.orders()) == [1, 2, 1, 2]
    assert (await here.cluster()).next_order == 3


async def test_two_dispatchers_number_every_order_once(here: Hub):
    await joined(here, "east", "west")
    await queued(here, *(row(("east", "west")[index % 2], f"p-{index}") for index in range(40)))
    others = [here.twin(prefix) for prefix in "bcd"]
    await asyncio.gather(*(dispatch(each.store, each.log, each.clock, each.ids) for each in (here, *others)))

    for cluster in ("east", "west"):
        sent = {(each["order"], each["placement"]) for each in here.orders(cluster)}
        assert sorted(number for number, _ in sent) == list(range(1, 21))
        assert len({placement for _, placement in sent}) == 20


async def test_4_1_numbers_never_go_back(here: Hub):
    (east,) = await joined(here, "east")
    for index in range(3):
        await queued(here, row(placement=f"p-{index}"))
        await here.dispatch()
        east.tell(east.beat(done=index + 1))
        await here.fold()
        await repeat(here.store, here.log, here.clock, here.ids)

    assert numbers(here.orders()) == [1, 2, 3]


async def test_4_1_what_was_done_for_an_older_generation_confirms_nothing_of_this_one(here: Hub):
    (east,) = await joined(here, "east")
    east.tell(east.beat(done=300))
    await here.fold()
    async with here.store.transaction() as tx:
        await tx.set_generation(2)
    await queued(here, row())
    (order,) = await here.dispatch()
    here.clock.advance(REPEAT_AFTER_MS / 1000 + 1)

    assert order["generation"] == 2
    assert await repeat(here.store, here.log, here.clock, here.ids) == 1


async def test_4_2_a_row_that_waits_for_a_precondition_is_neither_numbered_nor_sent(here: Hub):
    await joined(here, "east")
    await queued(here, row(placement="a", waits_for="loan-1"), row(placement="b"))
    sent = await here.dispatch()

    assert [(each["order"], each["placement"]) for each in sent] == [(1, "b")]


async def test_4_2_a_row_taken_back_before_it_was_sent_leaves_no_hole_in_the_numbers(here: Hub):
    await joined(here, "east")
    await queued(here, row(placement="a"))
    await here.dispatch()
    await queued(here, row(placement="b", waits_for="loan-1"), row(placement="c"))
    async with here.store.transaction() as tx:
        gone = await tx.cancel_waiting("b")
    await here.dispatch()

    assert gone == 1
    assert [(each["order"], each["placement"]) for each in here.orders()] == [(1, "a"), (2, "c")]


async def test_a_cluster_that_has_left_is_sent_nothing_again(here: Hub):
    (east,) = await joined(here, "east")
    await here.create(replicas=1)
    await here.decide()
    east.tell(ClusterLeft(cluster="east"))
    await here.fold()
    here.clock.advance(REPEAT_AFTER_MS / 1000 + 1)

    assert await repeat(here.store, here.log, here.clock, here.ids) == 0


async def test_more_rows_than_one_batch_all_leave_in_order(here: Hub):
    await joined(here, "east")
    await queued(here, *(row(placement=f"p-{index}") for index in range(1_201)))
    for _ in range(3):
        await dispatch(here.store, here.log, here.clock, here.ids)

    assert numbers(here.orders()) == list(range(1, 1_202))


# --- 1.3 asking for resyncs ------------------------------------------------------------------------------------------


async def asked(here: Hub) -> int:
    """How many requests for a resync have been sent."""
    await ask_for_resyncs(here.store, here.clock)
    await here.dispatch()
    return sum("reason" in order for order in here.orders())


async def test_1_3_a_sound_cluster_is_asked_for_nothing(here: Hub):
    await joined(here, "east")

    assert await asked(here) == 0


async def test_1_3_a_stale_cluster_is_asked_with_a_back_off_from_one_second_to_sixty(here: Hub):
    (east,) = await joined(here, "east")
    east.epoch = 9
    east.tell(east.beat())
    await here.fold()

    times = []
    for second in range(260):
        times += [second] * await ask_for_resyncs(here.store, here.clock)
        here.clock.advance(1)
    await here.dispatch()

    assert [later - earlier for earlier, later in pairwise(times)] == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert here.orders()[0]["reason"] == "epoch 9 was not opened by a resync"


async def test_1_3_lasting_poison_causes_no_endless_resyncs(here: Hub):
    (east,) = await joined(here, "east")
    for _ in range(200):
        east.poison()
    await here.fold()

    assert await asked(here) == 0


async def test_1_3_trouble_that_every_resync_brings_back_is_asked_about_once_a_minute_at_most(here: Hub):
    await joined(here, "east")
    times, epoch = [], 2
    for second in range(0, 300, 5):
        broken = here.agent(epoch=epoch, sequence=5)
        broken.tell(broken.beat())
        await here.fold()
        asked_now = await ask_for_resyncs(here.store, here.clock)
        if asked_now:
            times.append(second)
            mended = here.agent(epoch=epoch, sequence=50)
            mended.join(mended.node())
            await here.fold()
            assert (await here.cluster()).stale == ""
            epoch += 1
        here.clock.advance(5)

    assert [later - earlier for earlier, later in pairwise(times[-3:])] == [60, 60]


async def test_1_3_a_cluster_that_was_sound_for_long_begins_the_back_off_anew(here: Hub):
    (east,) = await joined(here, "east")
    for epoch in (9, 10):
        east.epoch = epoch
        east.tell(east.beat())
        await here.fold()
        for _ in range(40):
            await ask_for_resyncs(here.store, here.clock)
            here.clock.advance(1)
        tries = (await here.cluster()).reception.resync_tries
        here.clock.advance(301)

    assert tries == 6


async def test_1_3_while_a_resync_runs_no_other_is_asked_for_at_once(here: Hub):
    (east,) = await joined(here, "east")
    east.epoch = 9
    east.tell(east.beat())
    await here.fold()
    first = await asked(here)
    east.tell(ResyncStarted(cluster="east", resync="r"))
    await here.fold()
    here.clock.advance(10)
    meanwhile = await asked(here)
    here.clock.advance(60)

    assert (first, meanwhile, await asked(here)) == (1, 1, 2)


async def test_requests_that_nobody_reads_do_not_pile_up(here: Hub):
    (east,) = await joined(here, "east")
    east.epoch = 9
    east.tell(east.beat())
    await here.fold()
    for _ in range(PENDING_RESYNCS + 10):
        here.clock.advance(61)
        await ask_for_resyncs(here.store, here.clock)
        await here.dispatch()

    async with here.store.transaction() as tx:
        rows = await tx.rows_after("east", 0, 100)
    assert len([each for each in rows if each.type == RESYNC]) == PENDING_RESYNCS


async def test_a_cluster_that_has_left_is_asked_for_nothing(here: Hub):
    (east,) = await joined(here, "east")
    east.tell(ClusterLeft(cluster="east"))
    await here.fold()

    assert await asked(here) == 0
