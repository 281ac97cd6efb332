"""What an agent tells: epochs and sequences, resyncs, coalesced events in the right order, and only what it may say."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

from federation.domain.errors import Unavailable
from federation.domain.events import (
    ClusterObserved,
    NodeGone,
    NodeObserved,
    PlacementObserved,
    ResyncFinished,
    ResyncRequested,
    ResyncStarted,
)
from federation.domain.member import Change, ObjectDeleted, PodChanged, PodDeleted, WatchBack, WatchLost
from federation.ports import Message
from tests.services.agents import World, unwanted, virtually, wanted


@virtually
async def test_1_1_an_epoch_opens_with_a_resync_and_counts_every_event():
    world = World()

    async with world.running():
        await world.order(wanted(1))
        await world.until(lambda: (p := world.placement()) and p.ready == 2)
        await world.pass_time(15)

    assert isinstance(world.events()[0], ResyncStarted)
    assert world.sequences() == list(range(1, len(world.sequences()) + 1))
    assert {type(event).__name__ for event in world.events()} >= {"ClusterObserved", "NodeObserved", "ActionFinished"}


@virtually
async def test_1_1_each_process_has_an_epoch_of_its_own_that_begins_at_one():
    world = World()

    async with world.running():
        await world.until(lambda: world.events(ResyncFinished))
    async with world.running():
        await world.until(lambda: len(world.events(ResyncFinished)) == 2)

    stamps = [envelope.stamp for envelope, event in world.told() if isinstance(event, ResyncStarted)]
    assert [(stamp.epoch, stamp.sequence) for stamp in stamps if stamp] == [(1, 1), (2, 1)]
    assert len({stamp.epoch_uid for stamp in stamps if stamp}) == 1


@virtually
async def test_one_agent_is_active_and_another_takes_over_when_it_dies():
    world = World()
    first = asyncio.create_task(_run_for_ever(world))
    await world.until(lambda: world.events(ResyncFinished))

    async with world.running():
        await world.pass_time(10)
        epochs_before = {envelope.stamp.epoch for envelope, _ in world.told() if envelope.stamp}
        first.cancel()
        await world.until(lambda: len(world.events(ResyncFinished)) == 2, 40)

    assert epochs_before == {1}
    assert world.told()[-1][0].stamp.epoch == 2


async def _run_for_ever(world: World) -> None:
    async with world.running():
        await asyncio.sleep(3600)


@virtually
async def test_1_4_a_resync_tells_everything_and_then_the_names():
    world = World(nodes=3)

    async with world.running():
        await world.order(wanted(1))
        await world.until(lambda: (p := world.placement()) and p.ready == 2)
        await world.order(ResyncRequested(order=2, generation=1))
        await world.until(lambda: world.finished(2))
        await world.until(lambda: _last_resync(world)[-1:] and isinstance(_last_resync(world)[-1], ResyncFinished))

    told = _last_resync(world)
    last = told[-1]
    assert set(last.nodes) == {event.node for event in told if isinstance(event, NodeObserved)} == {"n-0", "n-1", "n-2"}
    assert set(last.placements) == {event.placement for event in told if isinstance(event, PlacementObserved)} == {"p1"}
    assert last.done == 2


def _last_resync(world: World) -> list[Any]:
    """From the last ResyncStarted up to its end, if that has come."""
    events = world.events()
    start = max(index for index, event in enumerate(events) if isinstance(event, ResyncStarted))
    ends = [index for index, event in enumerate(events) if isinstance(event, ResyncFinished) and index > start]
    return events[start : ends[0] + 1] if ends else events[start:]


@virtually
async def test_1_4_nodes_that_join_during_a_resync_are_told_before_they_are_named():
    world = World(nodes=900)

    async with world.running():
        await world.until(lambda: world.events(ResyncStarted))
        for number in range(1500):
            world.cluster.add_node(f"newcomer-{number}", {"cpu": "1"})
        finished = (await world.until(lambda: world.events(ResyncFinished)))[0]

    before = world.events()[: world.events().index(finished)]
    assert set(finished.nodes) <= {event.node for event in before if isinstance(event, NodeObserved)}
    assert len(finished.nodes) > 900


@virtually
async def test_resyncs_asked_for_while_one_runs_become_one_more_after_it():
    world = World(nodes=900)

    async with world.running():
        await world.until(lambda: world.events(ResyncStarted))
        for number in range(1, 6):
            await world.order(ResyncRequested(order=number, generation=1))
        await world.until(lambda: world.finished(5))
        await world.pass_time(20)

    kinds = [type(event) for event in world.events() if isinstance(event, ResyncStarted | ResyncFinished)]
    assert kinds == [ResyncStarted, ResyncFinished] * (len(kinds) // 2)
    assert 2 <= len(kinds) // 2 <= 4


@virtually
async def test_a_node_is_told_at_once_when_idle_and_at_most_once_a_second():
    world = World(nodes=1)

    async with world.running():
        await world.until(lambda: world.events(ResyncFinished))
        await world.pass_time(5)
        before, started = len(world.events(NodeObserved)), asyncio.get_running_loop().time()
        world.cluster.cordon("n-0")
        await world.until(lambda: len(world.events(NodeObserved)) > before)
        waited = asyncio.get_running_loop().time() - started
        for number in range(100):
            world.cluster.cordon("n-0", number % 2 == 0)
            await world.pass_time(0.05)
        await world.pass_time(3)

    assert waited < 0.3
    assert len(world.events(NodeObserved)) - before <= 8
    assert world.events(NodeObserved)[-1].unschedulable is False


@virtually
async def test_a_node_that_goes_is_told_once():
    world = World()

    async with world.running():
        await world.until(lambda: world.events(ResyncFinished))
        world.cluster.remove_node("n-1")
        await world.until(lambda: world.events(NodeGone))
        await world.pass_time(5)

    assert [event.node for event in world.events(NodeGone)] == ["n-1"]


@virtually
async def test_3_2_the_node_on_which_a_pod_was_bound_goes_out_before_its_placement():
    world = World(nodes=1, cores=0)

    async with world.running():
        await world.order(wanted(1, replicas=8))
        await world.until(lambda: (p := world.placement()) and p.observed and p.live == 8)
        restless = asyncio.create_task(_keep_changing(world, "n-0"))
        for half_cores in range(1, 9):
            _resize(world, "n-0", half_cores * 500)
            await world.pass_time(0.7)
        await world.until(lambda: world.placement().bound == 8)
        restless.cancel()

    bound_on_nodes = 0
    for event in world.events():
        if isinstance(event, NodeObserved):
            bound_on_nodes = sum(entry.bound for entry in event.placements)
        if isinstance(event, PlacementObserved):
            assert event.bound <= bound_on_nodes
    assert len({event.bound for event in world.events(PlacementObserved)}) > 4


def _resize(world: World, node: str, millicores: int) -> None:
    found = world.cluster.nodes[node]
    found.allocatable = {**found.allocatable, "cpu": f"{millicores}m"}
    found.amounts = {**found.amounts, "cpu": millicores}
    world.cluster.change_node(found)


async def _keep_changing(world: World, node: str) -> None:
    """The node is told as often as may be, so that its next event has to wait."""
    while True:
        world.cluster.nodes[node].used = {"cpu": str(asyncio.get_running_loop().time())}
        world.cluster.change_node(world.cluster.nodes[node])
        await world.pass_time(0.03)


@virtually
async def test_3_9_a_node_with_anothers_newly_bound_pod_goes_out_before_the_unbound_count_falls():
    world = World(nodes=1, cores=1)
    _add_foreign_object(world, replicas=9)

    async with world.running():
        await world.until(lambda: [e for e in world.events(ClusterObserved) if e.unbound])
        world.cluster.add_node("n-9", {"cpu": "1"})
        restless = asyncio.create_task(_keep_changing(world, "n-9"))
        for cores in range(2, 10):
            _resize(world, "n-9", cores * 1000)
            await world.pass_time(0.7)
        await world.until(lambda: not world.events(ClusterObserved)[-1].unbound)
        restless.cancel()

    known: dict[str, int] = {}
    for event in world.events():
        if isinstance(event, NodeObserved):
            known[event.node] = int(event.requested["pods"])
        if isinstance(event, ClusterObserved):
            assert sum(known.values()) + sum(pods.count for pods in event.unbound) >= 9


def _add_foreign_object(world: World, replicas: int) -> None:
    manifest = wanted(1).manifest
    manifest["metadata"] |= {"name": "local", "namespace": "default"}
    manifest["spec"] |= {"replicas": replicas}
    manifest["spec"]["template"]["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "800m"}}
    world.cluster.apply(manifest, "", "")
    world.cluster.step(world.clock.now_ms() + 2000)


@virtually
async def test_a_heartbeat_comes_every_ten_seconds_and_soon_after_an_order_is_done():
    world = World()

    async with world.running():
        await world.until(lambda: world.events(ResyncFinished))
        await world.pass_time(64)
        quiet = len(world.events(ClusterObserved))
        await world.order(wanted(1))
        await world.until(lambda: world.finished(1))
        await world.until(lambda: world.events(ClusterObserved)[-1].orders.done == 1, 2)

    assert 6 <= quiet <= 9
    assert world.events(ClusterObserved)[-1].kubernetes_version


@virtually
async def test_an_outage_of_the_log_loses_no_sequence_and_queues_no_history():
    world = World(nodes=1)

    async with world.running():
        await world.until(lambda: world.events(ResyncFinished))
        world.log.stop()
        for number in range(600):
            world.cluster.cordon("n-0", number % 2 == 0)
            await world.pass_time(0.1)
        before = len(world.told())
        world.log.start()
        await world.until(lambda: len(world.told()) > before)
        await world.pass_time(3)

    assert world.sequences() == list(range(1, len(world.sequences()) + 1))
    assert len([event for event in world.events()[before:] if isinstance(event, NodeObserved)]) <= 3
    assert world.events(NodeObserved)[-1].unschedulable is False


@virtually
async def test_an_append_whose_answer_was_lost_is_repeated_as_it_was():
    world = World()
    append, lost = world.log.append, 0

    async def append_and_lose(messages: Sequence[Message]) -> None:
        nonlocal lost
        await append(messages)
        if (lost := lost + 1) % 3 == 0:
            raise Unavailable("the answer was lost")

    world.log.append = append_and_lose  # type: ignore[method-assign]

    async with world.running():
        await world.order(wanted(1))
        await world.until(lambda: (p := world.placement()) and p.ready == 2)
        await world.pass_time(30)

    contents: dict[int, set[tuple[str, bytes]]] = {}
    for record in world.log.held("federation.events"):
        headers = dict(record.headers)
        contents.setdefault(int(headers["ce_sequence"]), set()).add((headers["ce_id"].decode(), record.value))
    assert len(world.sequences()) > len(contents)
    assert all(len(each) == 1 for each in contents.values())
    assert sorted(contents) == list(range(1, len(contents) + 1))


@virtually
async def test_without_a_valid_lease_nothing_is_published_and_nothing_is_written():
    world = World()

    async with world.running():
        await world.until(lambda: world.events(ResyncFinished))
        await world.pass_time(20)
        world.hooks["lease"] = _unavailable
        await world.pass_time(8)
        silent_since, applied = len(world.told()), world.count("apply")
        world.cluster.cordon("n-0")
        await world.order(wanted(1))
        await world.pass_time(60)
        silent_until = len(world.told())
        del world.hooks["lease"]
        await world.until(lambda: world.finished(1))

    assert silent_since == silent_until
    assert applied == 0
    assert world.object() is not None
    assert world.sequences() == list(range(1, len(world.sequences()) + 1))


async def _unavailable() -> None:
    raise Unavailable("the API server does not answer")


@virtually
async def test_an_agent_whose_lease_was_taken_stops_at_once_and_comes_back_in_a_new_epoch():
    world = World()

    async with world.running():
        await world.until(lambda: world.events(ResyncFinished))
        world.cluster.lease.holder = "another"
        world.cluster.lease.transitions += 1
        world.cluster.lease.renewed_ms = world.clock.now_ms() + 10_000
        await world.pass_time(6)
        before = len(world.told())
        world.cluster.cordon("n-0")
        await world.pass_time(15)
        silent_until = len(world.told())
        await world.until(lambda: len(world.events(ResyncFinished)) == 2)

    assert before == silent_until
    assert [envelope.stamp.epoch for envelope, event in world.told() if isinstance(event, ResyncStarted)] == [1, 3]


@virtually
async def test_an_agent_that_hangs_on_the_api_server_still_stops_within_seconds():
    world = World()

    async with world.running():
        await world.until(lambda: world.events(ResyncFinished))
        for verb in ("lease", "list", "get", "apply", "store_orders"):
            world.hooks[verb] = _hang
        await world.order(wanted(1))
        await world.pass_time(3)
        started = asyncio.get_running_loop().time()

    assert asyncio.get_running_loop().time() - started < 5


async def _hang() -> None:
    await asyncio.sleep(1000)


@virtually
async def test_a_watch_that_breaks_is_begun_again():
    world = World()
    watched = world.gateway.changes

    async def breaking() -> AsyncIterator[Sequence[Change]]:
        async for changes in watched():
            yield changes
            if world.count("watch") < 4:
                raise Unavailable("the connection was reset")

    world.gateway.changes = breaking  # type: ignore[method-assign]

    async with world.running():
        await world.until(lambda: world.events(ResyncFinished))
        world.cluster.cordon("n-0")
        await world.until(lambda: world.events(NodeObserved)[-1].unschedulable)

    assert world.count("watch") >= 2


@virtually
async def test_an_agent_that_has_long_seen_nothing_falls_silent():
    world = World()
    watched = world.gateway.changes

    async def once() -> AsyncIterator[Sequence[Change]]:
        if world.count("watch"):
            raise Unavailable("the API server refuses to be watched")
        async for changes in watched():
            yield changes
            if world.events(ResyncFinished):
                raise Unavailable("the connection was reset")

    world.gateway.changes = once  # type: ignore[method-assign]

    async with world.running():
        await world.until(lambda: world.events(ResyncFinished))
        world.cluster.cordon("n-0")
        await world.pass_time(40)
        before = len(world.events(ClusterObserved))
        await world.pass_time(60)

    assert len(world.events(ClusterObserved)) == before


@virtually
async def test_an_agent_that_has_long_lost_one_of_its_watches_falls_silent_until_it_is_back():
    world, back = World(), asyncio.Event()
    watched = world.gateway.changes

    async def half_blind() -> AsyncIterator[Sequence[Change]]:
        async for changes in watched():
            yield changes
            if world.events(ResyncFinished) and not back.is_set():
                yield [WatchLost("/api/v1/nodes")]
                await back.wait()
                yield [WatchBack("/api/v1/nodes")]

    world.gateway.changes = half_blind  # type: ignore[method-assign]

    async with world.running():
        await world.until(lambda: world.events(ResyncFinished))
        world.cluster.cordon("n-0")
        await world.pass_time(40)
        before = len(world.events(ClusterObserved))
        await world.pass_time(60)
        meanwhile = len(world.events(ClusterObserved))
        back.set()
        await world.pass_time(15)

    assert meanwhile == before
    assert len(world.events(ClusterObserved)) > meanwhile


# --- 3.1: what only the server may say -------------------------------------------------------------------------------


@virtually
async def test_3_1_gone_is_read_from_the_server():
    world = World()

    async with world.running():
        await world.order(wanted(1))
        await world.until(lambda: (p := world.placement()) and p.ready == 2)
        await world.order(unwanted(2))
        await world.until(lambda: (p := world.placement()) and p.gone)

    last = world.placement()
    assert (last.done, last.live, last.version) == (2, 0, 0)
    assert world.object() is None
    assert world.live_pods() == []


@virtually
async def test_3_1_a_cache_that_shows_nothing_is_not_believed():
    world = World()
    _lie_about(world, lambda: [ObjectDeleted(world.object().uid), *(PodDeleted(pod.uid) for pod in world.live_pods())])

    async with world.running():
        await world.order(wanted(1))
        await world.until(lambda: (p := world.placement()) and p.ready == 2)
        await world.pass_time(5)
        listed, told = world.count("list"), len(world.events(PlacementObserved))
        world.lie.set()  # type: ignore[attr-defined]
        await world.until(lambda: world.count("list") > listed)
        await world.pass_time(5)
        await world.order(ResyncRequested(order=2, generation=1))
        last = (await world.until(lambda: [e for e in world.events(ResyncFinished) if e.done == 2]))[0]

    assert {event.live for event in world.events(PlacementObserved)[told:]} == {2}
    assert not any(event.gone for event in world.events(PlacementObserved)[told:])
    assert last.placements == ("p1",)


def _lie_about(world: World, lies: Any) -> None:
    """Once `world.lie` is set, the watch tells *lies* once more."""
    watched = world.gateway.changes
    world.lie = asyncio.Event()  # type: ignore[attr-defined]

    async def lying() -> AsyncIterator[Sequence[Change]]:
        stream = watched()
        following = asyncio.ensure_future(anext(stream))
        lie = asyncio.ensure_future(world.lie.wait())  # type: ignore[attr-defined]
        try:
            while True:
                await asyncio.wait({following, lie} if not lie.done() else {following}, return_when="FIRST_COMPLETED")
                if lie.done() and world.lie.is_set():  # type: ignore[attr-defined]
                    world.lie.clear()  # type: ignore[attr-defined]
                    yield lies()
                if following.done():
                    yield following.result()
                    following = asyncio.ensure_future(anext(stream))
        finally:
            following.cancel()
            lie.cancel()

    world.gateway.changes = lying  # type: ignore[method-assign]


@virtually
async def test_3_1_a_version_is_told_as_observed_with_the_pods_that_the_server_lists():
    world = World()
    watched = world.gateway.changes

    async def without_pods() -> AsyncIterator[Sequence[Change]]:
        async for changes in watched():
            yield [change for change in changes if not isinstance(change, PodChanged)]

    world.gateway.changes = without_pods  # type: ignore[method-assign]

    async with world.running():
        await world.order(wanted(1, replicas=5))
        first = await world.until(lambda: [e for e in world.events(PlacementObserved) if e.observed])
        await world.order(wanted(2, replicas=3))
        second = await world.until(
            lambda: [e for e in world.events(PlacementObserved) if e.observed and e.version == 2]
        )

    assert first[0].live == 5
    assert second[0].live == 3


@virtually
async def test_3_1_a_resync_does_not_call_observed_what_the_server_has_not_shown():
    world = World()
    async with world.running():
        await world.order(wanted(1, replicas=3))
        await world.until(lambda: (p := world.placement()) and p.ready == 3)
    watched, before = world.gateway.changes, len(world.events(PlacementObserved))

    async def without_pods() -> AsyncIterator[Sequence[Change]]:
        async for changes in watched():
            yield [change for change in changes if not isinstance(change, PodChanged)]

    world.gateway.changes = without_pods  # type: ignore[method-assign]
    async with world.running():
        await world.until(lambda: [event for event in world.events(PlacementObserved)[before:] if event.observed])

    told = world.events(PlacementObserved)[before:]
    assert [event.live for event in told if event.observed] == [3]


@virtually
async def test_3_1_after_each_order_its_placement_is_told_even_where_nothing_changed():
    world = World()

    async with world.running():
        await world.order(wanted(1))
        await world.until(lambda: (p := world.placement()) and p.ready == 2)
        await world.pass_time(5)
        await world.order(wanted(2, version=1))
        await world.until(lambda: (p := world.placement()) and p.done == 2)

    assert world.placement().version == 1


@virtually
async def test_3_1_an_ended_placement_that_never_stood_here_is_told_as_gone_once_its_order_is_done():
    world = World()

    async with world.running():
        await world.order(unwanted(1))
        await world.until(lambda: (p := world.placement()) and p.gone)

    assert (world.placement().gone, world.placement().done) == (True, 1)


@virtually
async def test_3_1_a_resync_names_a_placement_until_the_server_has_shown_it_gone():
    world = World()
    world.cluster.hold("collector")

    async with world.running():
        await world.order(wanted(1))
        await world.until(lambda: (p := world.placement()) and p.ready == 2)
        await world.order(unwanted(2))
        await world.order(ResyncRequested(order=3, generation=1))
        during = (await world.until(lambda: [e for e in world.events(ResyncFinished) if e.done == 3]))[0]
        world.cluster.release("collector")
        await world.until(lambda: world.placement().gone)
        await world.order(ResyncRequested(order=4, generation=1))
        after = (await world.until(lambda: [e for e in world.events(ResyncFinished) if e.done == 4]))[0]

    assert (during.placements, after.placements) == (("p1",), ())
