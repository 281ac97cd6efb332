"""What can be read: clusters, nodes, the pool, decisions with their reasons, parked records, health and metrics."""

import asyncio

import pytest

from federation.api.parts import ApiSettings
from federation.domain.cluster import Node, Reception, Unbound
from federation.domain.errors import Unavailable
from federation.domain.events import Taint
from federation.domain.records import Parked
from tests.api.serving import Served, decide, make_cluster, put_clusters, serving


async def test_a_cluster_shows_what_it_has_and_what_is_left():
    cluster = make_cluster(
        "east",
        labels={"topology.kubernetes.io/region": "eu-1"},
        taints=(Taint(key="gpu"),),
        held={"cpu": 500, "memory": 2**30},
        unbound=(Unbound({"cpu": 100}, 3), Unbound({"cpu": 200}, 2)),
        acts=True,
        generation=4,
        done=9,
    )
    async with serving() as served:
        await put_clusters(served.store, cluster)
        made = await served.create()
        await decide(served, made["id"], {"east": 2})

        view = (await served.call("GET", "/v1/clusters/east")).json

        assert view["resources"]["cpu"] == {"known": "10", "used": "1", "held": "500m", "free": "8500m"}
        assert view["resources"]["memory"] == {"known": "16Gi", "used": "0", "held": "1Gi", "free": "15Gi"}
        assert (view["placements"], view["held"], view["unbound"]) == (1, 0, 5)
        assert view["orders"] == {"generation": 4, "done": 9}
        assert view["kubernetesVersion"] == "v1.36.3"
        assert (view["silent"], view["stale"], view["cordoned"], view["debt"]) == (False, None, False, {})
        assert 0 <= view["ageSeconds"] < 60


async def test_what_passes_the_known_shows_as_debt_and_nothing_is_free():
    async with serving() as served:
        await put_clusters(served.store, make_cluster("east", used={"cpu": 9_000}, held={"cpu": 2_500}))

        view = (await served.call("GET", "/v1/clusters/east")).json

        assert view["debt"] == {"cpu": "1500m"}
        assert view["resources"]["cpu"]["free"] == "0"


async def test_placements_are_counted_in_their_own_cluster():
    async with serving() as served:
        await put_clusters(served.store, make_cluster("east"), make_cluster("west"))
        made = await served.create()
        await decide(served, made["id"], {"east": 1, "west": 1})
        more = await served.create(name="more")
        await decide(served, more["id"], {"east": 2})

        listed = (await served.call("GET", "/v1/clusters")).json["items"]
        west = (await served.call("GET", "/v1/clusters/west")).json

        assert [(cluster["name"], cluster["placements"]) for cluster in listed] == [("east", 2), ("west", 1)]
        assert west["placements"] == 1


async def test_a_cluster_is_silent_only_as_far_as_the_log_was_read():
    async with serving(ApiSettings(silent_after_seconds=30.0, cache_seconds=0.0)) as served:
        cluster = make_cluster("east")
        await put_clusters(served.store, cluster)
        await _caught_up(served, cluster.observed_ms + 29_000)
        before = (await served.call("GET", "/v1/clusters/east")).json["silent"]
        await _caught_up(served, cluster.observed_ms + 31_000)

        after = (await served.call("GET", "/v1/clusters/east")).json["silent"]

        assert (before, after) == (False, True)


async def test_the_pool_sums_only_what_can_be_used():
    async with serving() as served:
        await put_clusters(
            served.store,
            make_cluster("east"),
            make_cluster("west", nodes=2),
            make_cluster("cordoned", cordoned=True),
            make_cluster("stale", reception=Reception(unsound="a gap")),
            make_cluster("silent", source="federation.events/7", observed_ms=1),
        )
        await _caught_up(served, 60_000, "federation.events/7")

        pool = (await served.call("GET", "/v1/pool")).json

        assert (pool["usable"], pool["nodes"]) == (2, 3)
        assert pool["resources"]["cpu"] == {"known": "20", "used": "2", "held": "0", "free": "18"}
        assert {c["name"]: c["usable"] for c in pool["clusters"]} == {
            "cordoned": False,
            "east": True,
            "silent": False,
            "stale": False,
            "west": True,
        }


async def test_an_answer_may_be_a_moment_old_and_no_older():
    async with serving(ApiSettings(cache_seconds=0.3)) as served:
        await put_clusters(served.store, make_cluster("east"))
        await served.call("GET", "/v1/pool")
        await put_clusters(served.store, make_cluster("west"))

        at_once = (await served.call("GET", "/v1/pool")).json["usable"]
        await asyncio.sleep(0.35)
        later = (await served.call("GET", "/v1/pool")).json["usable"]

        assert (at_once, later) == (1, 2)


async def test_who_wrote_reads_what_was_written():
    async with serving(ApiSettings(cache_seconds=60.0)) as served:
        await put_clusters(served.store, make_cluster("east"))
        made = await served.create()
        path = f"/v1/workloads/{made['id']}"
        await served.call("GET", path)
        await served.call("GET", "/v1/clusters/east")

        await served.call("PATCH", path, {"replicas": 3})
        await served.call("PATCH", "/v1/clusters/east", {"cordoned": True})

        assert (await served.call("GET", path)).json["replicas"] == 3
        assert (await served.call("GET", "/v1/clusters/east")).json["cordoned"] is True


async def test_a_cordon_moves_the_definition_on_which_plans_rest():
    async with serving() as served:
        await put_clusters(served.store, make_cluster("east"))

        first = await served.call("PATCH", "/v1/clusters/east", {"cordoned": True})
        await served.call("PATCH", "/v1/clusters/east", {"cordoned": True})
        absent = await served.call("PATCH", "/v1/clusters/north", {"cordoned": True})

        async with served.store.reader() as reader:
            cluster = await reader.cluster("east")
        assert cluster is not None
        assert (first.status, cluster.cordoned, cluster.revision, cluster.definition) == (200, True, 2, 1)
        assert (absent.status, absent.slug) == (404, "not-found")


async def test_nodes_come_in_pages_without_those_that_are_gone():
    async with serving() as served:
        await put_clusters(served.store, make_cluster("east"))
        nodes = [
            Node(
                name=f"n-{number}",
                gone=number == 1,
                allocatable={"cpu": 4000},
                requested={"cpu": 500},
                bound={"p": {"r": 2}},
            )
            for number in range(4)
        ]
        async with served.store.transaction() as tx:
            await tx.save_nodes("federation.events/0", 1, [("east", node) for node in nodes])

        first = (await served.call("GET", "/v1/clusters/east/nodes?limit=2")).json
        second = (await served.call("GET", f"/v1/clusters/east/nodes?limit=2&after={first['next']}")).json
        absent = await served.call("GET", "/v1/clusters/north/nodes")

        assert [node["name"] for node in first["items"]] == ["n-0"]
        assert [node["name"] for node in second["items"]] == ["n-2", "n-3"]
        assert first["items"][0]["free"] == {"cpu": "3500m"}
        assert first["items"][0]["placements"] == {"p": 2}
        assert absent.status == 404


async def test_a_decision_says_why_for_every_cluster():
    async with serving() as served:
        await put_clusters(served.store, make_cluster("east"))
        made = await served.create()
        undecided = await served.call("GET", f"/v1/workloads/{made['id']}/explanation")
        decision = await decide(served, made["id"], {"east": 2})

        explained = (await served.call("GET", f"/v1/workloads/{made['id']}/explanation")).json
        by_id = (await served.call("GET", f"/v1/decisions/{decision.id}")).json

        assert undecided.status == 404
        assert explained == by_id
        assert (explained["decision"], explained["outcome"], explained["summary"]) == (
            decision.id,
            "placed",
            "summed up",
        )
        assert [(c["cluster"], c["verdict"], c["reason"]) for c in explained["clusters"]] == [
            ("east", "chosen", ""),
            ("north", "refused", "insufficient cpu"),
        ]


async def test_decisions_come_newest_first():
    async with serving() as served:
        await put_clusters(served.store, make_cluster("east"))
        made = await served.create()
        first = await decide(served, made["id"], {"east": 2})
        await served.call("PATCH", f"/v1/workloads/{made['id']}", {"replicas": 3})
        second = await decide(served, made["id"], {})

        reply = await served.call("GET", f"/v1/workloads/{made['id']}/decisions")

        assert [decision["id"] for decision in reply.json["items"]] == [second.id, first.id]


@pytest.mark.parametrize(("recomputed", "same"), [({"east": 2}, True), ({"east": 1, "west": 1}, False)])
async def test_a_replay_says_whether_it_comes_out_the_same(recomputed: dict[str, int], same: bool):
    async with serving() as served:
        await put_clusters(served.store, make_cluster("east"))
        made = await served.create()
        decision = await decide(served, made["id"], {"east": 2})
        served.planner.replayed = recomputed

        reply = await served.call("POST", f"/v1/decisions/{decision.id}/replay")

        assert reply.json == {"same": same, "placed": {"east": 2}, "recomputed": recomputed}


async def test_parked_records_are_shown_safely():
    parked = Parked(
        source="federation.events/0",
        offset=7,
        at_ms=1_700_000_000_000,
        reason="ce_id is absent",
        key="east\n\x1b[31m",
        headers=(("ce_type", b"\xff\n"),),
        value=b"\x00\xffabc" + b"x" * 100_000,
    )
    async with serving() as served:
        async with served.store.transaction() as tx:
            await tx.park([parked])

        shown = (await served.call("GET", "/v1/events/parked")).json["items"][0]

        assert (shown["reason"], shown["offset"]) == ("ce_id is absent", 7)
        assert shown["key"] == "east\\n\\x1b[31m"
        assert shown["headers"] == {"ce_type": "\\xff\\n"}
        assert shown["value"].startswith("\\x00\\xffabc")
        assert len(shown["value"]) < 5_000


async def test_readiness_names_what_fails_and_liveness_does_not_ask():
    async def fine() -> str:
        return ""

    async def down() -> str:
        raise Unavailable("the database cannot be reached")

    async def hangs() -> str:
        await asyncio.sleep(60)
        return ""

    async with serving(health={"loops": fine, "database": down, "log": hangs}) as served:
        ready, alive = await served.call("GET", "/readyz"), await served.call("GET", "/livez")

        assert (ready.status, ready.json["status"]) == (503, "failing")
        assert ready.json["checks"] == {
            "loops": "ok",
            "database": "the database cannot be reached",
            "log": "no answer within 2 s",
        }
        assert alive.status == 200


async def test_metrics_count_by_template_and_not_by_path():
    async with serving() as served:
        await served.call("GET", "/v1/workloads/some-name-that-was-made-up")
        await served.call("GET", "/made/up")

        text = (await served.call("GET", "/metrics")).raw.decode()

        assert 'federation_http_requests_total{method="GET",route="/v1/workloads/{id}",status="404"}' in text
        assert 'route="unmatched",status="404"' in text
        assert "made-up" not in text
        assert "/made/up" not in text


async def test_a_request_keeps_its_own_id_where_that_is_fit():
    async with serving() as served:
        own = await served.call("GET", "/livez", headers={"X-Request-Id": "abc-1"})
        forged = await served.call("GET", "/livez", headers={"X-Request-Id": "a b"})

        assert own.headers["X-Request-Id"] == "abc-1"
        assert forged.headers["X-Request-Id"] != "a b"


async def _caught_up(served: Served, at_ms: int, source: str = "federation.events/0") -> None:
    async with served.store.transaction() as tx:
        if (await tx.partition(source)).position < 0:
            await tx.move_position(source, -1, 0)
        await tx.set_caught_up([source], at_ms)
