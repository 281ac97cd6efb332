"""Asking for workloads over REST: create, read, change, delete; once, in order, and in pages."""

import asyncio
from typing import Any

import pytest

from federation.domain.manifest import deployment_for
from federation.domain.placement import Seen
from tests.api.serving import WEB, Served, audit_rows, decide, make_cluster, put_clusters, serving

JOB = {
    "apiVersion": "batch/v1",
    "kind": "Job",
    "metadata": {"name": "sum"},
    "spec": {
        "parallelism": 2,
        "completions": 6,
        "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}},
    },
}


async def test_a_new_workload_is_accepted_and_waits_for_its_decision():
    async with serving() as served:
        reply = await served.call("POST", "/v1/workloads", WEB)

        answer = reply.json
        assert reply.status == 202
        assert reply.headers["Location"] == f"/v1/workloads/{answer['id']}"
        assert reply.headers["ETag"].startswith('"1.')
        assert (answer["name"], answer["team"], answer["phase"], answer["version"]) == ("web", "default", "pending", 1)
        assert (answer["decided"], answer["replicas"], answer["placements"], answer["reasons"]) == (0, 2, [], [])
        async with served.store.reader() as reader:
            assert [queued.id for queued in await reader.queue(10)] == [answer["id"]]


async def test_who_prefers_to_wait_hears_the_decision():
    async with serving() as served:
        await put_clusters(served.store, make_cluster("east"))
        asking = asyncio.create_task(served.call("POST", "/v1/workloads", WEB, headers={"Prefer": "wait=20"}))
        workload = await _queued(served)
        await decide(served, workload, {"east": 2})

        reply = await asking

        assert reply.status == 201
        assert reply.headers["Preference-Applied"] == "wait=20"
        assert reply.json["phase"] == "placed"
        assert [(p["cluster"], p["replicas"], p["phase"]) for p in reply.json["placements"]] == [("east", 2, "running")]


async def test_a_decision_that_nothing_fits_is_an_answer_too():
    async with serving() as served:
        asking = asyncio.create_task(served.call("POST", "/v1/workloads", WEB, headers={"Prefer": "wait"}))
        await decide(served, await _queued(served), {})

        reply = await asking

        assert (reply.status, reply.json["phase"]) == (201, "waiting")
        assert reply.json["reasons"] == ["nothing is free"]


async def test_waiting_ends_with_what_is_known_when_no_decision_comes():
    async with serving() as served:
        reply = await served.call("POST", "/v1/workloads", WEB, headers={"Prefer": "respond-async, wait=1"})

        assert (reply.status, reply.json["phase"]) == (202, "pending")


async def test_a_workload_is_found_by_id_and_by_name():
    async with serving() as served:
        made = await served.create()

        by_id = await served.call("GET", f"/v1/workloads/{made['id']}")
        by_name = await served.call("GET", "/v1/workloads/web")

        assert by_id.json["id"] == by_name.json["id"] == made["id"]
        spec = by_id.json["spec"]
        assert {field: spec[field] for field in (*WEB, "team")} == {**WEB, "team": "default"}


async def test_an_answer_that_is_known_is_not_sent_again():
    async with serving() as served:
        made = await served.create()
        first = await served.call("GET", f"/v1/workloads/{made['id']}")

        again = await served.call(
            "GET", f"/v1/workloads/{made['id']}", headers={"If-None-Match": f'"x", W/{first.headers["ETag"]}'}
        )
        other = await served.call("GET", f"/v1/workloads/{made['id']}", headers={"If-None-Match": '"1.0"'})

        assert (again.status, again.raw, again.headers["ETag"]) == (304, b"", first.headers["ETag"])
        assert other.status == 200


async def test_a_name_is_taken_once_in_a_team():
    async with serving() as served:
        await served.create()

        again = await served.call("POST", "/v1/workloads", {**WEB, "replicas": 5})
        elsewhere = await served.call("POST", "/v1/workloads", {**WEB, "team": "shop"})

        assert (again.status, again.slug) == (409, "conflict")
        assert elsewhere.status == 202


async def test_the_same_request_under_one_key_has_one_effect():
    async with serving() as served:
        key = {"Idempotency-Key": "k-1"}
        first = await served.call("POST", "/v1/workloads", WEB, headers=key)

        again = await served.call("POST", "/v1/workloads", WEB, headers=key)
        other_body = await served.call("POST", "/v1/workloads", {**WEB, "name": "other"}, headers=key)
        other_team = await served.call("POST", "/v1/workloads", {**WEB, "team": "shop"}, headers=key)

        assert (again.status, again.json["id"]) == (202, first.json["id"])
        assert again.headers["Idempotency-Replayed"] == "true"
        assert "Idempotency-Replayed" not in first.headers
        assert (other_body.status, other_body.slug) == (422, "idempotency-mismatch")
        assert other_team.json["id"] != first.json["id"]
        assert len(await _all(served)) == 2


async def test_a_key_is_good_for_a_day():
    async with serving() as served:
        key = {"Idempotency-Key": "k-1"}
        await served.call("POST", "/v1/workloads", WEB, headers=key)
        served.clock.by_ms += 24 * 3600 * 1000

        later = await served.call("POST", "/v1/workloads", {**WEB, "name": "other"}, headers=key)

        assert later.status == 202


async def test_ten_racers_under_one_key_make_one_workload():
    async with serving() as served:
        calls = (served.call("POST", "/v1/workloads", WEB, headers={"Idempotency-Key": "race"}) for _ in range(10))

        replies = await asyncio.gather(*calls)

        assert {reply.status for reply in replies} == {202}
        assert len({reply.json["id"] for reply in replies}) == 1
        assert len(await _all(served)) == 1


async def test_who_repeats_a_request_whose_workload_is_gone_hears_the_first_answer():
    async with serving() as served:
        key = {"Idempotency-Key": "k-1"}
        first = await served.call("POST", "/v1/workloads", WEB, headers=key)
        async with served.store.transaction() as tx:
            await tx.remove_workloads([first.json["id"]])

        again = await served.call("POST", "/v1/workloads", WEB, headers=key)

        assert (again.status, again.json["id"], again.json["phase"]) == (202, first.json["id"], "pending")


@pytest.mark.parametrize("key", ["", "x" * 256, "a b", "ü"])
async def test_an_idempotency_key_that_is_unfit_is_refused(key: str):
    async with serving() as served:
        reply = await served.call("POST", "/v1/workloads", WEB, headers={"Idempotency-Key": key})

        assert (reply.status, reply.slug) == (400, "invalid")
        assert await _all(served) == []


async def test_a_patch_changes_what_it_names_and_raises_the_version():
    async with serving() as served:
        made = await served.create()

        reply = await served.call("PATCH", f"/v1/workloads/{made['id']}", {"replicas": 7, "requests": {"memory": None}})

        assert (reply.status, reply.json["version"], reply.json["replicas"]) == (202, 2, 7)
        assert reply.json["spec"]["requests"] == {"cpu": "500m"}


async def test_a_patch_that_changes_nothing_keeps_the_version():
    async with serving() as served:
        made = await served.create()

        reply = await served.call("PATCH", f"/v1/workloads/{made['id']}", {"replicas": 2})

        assert reply.json["version"] == 1


async def test_who_waits_for_a_change_hears_its_decision():
    async with serving() as served:
        await put_clusters(served.store, make_cluster("east"))
        made = await served.create()
        await decide(served, made["id"], {"east": 2})
        changing = asyncio.create_task(
            served.call("PATCH", f"/v1/workloads/{made['id']}", {"priority": 9}, headers={"Prefer": "wait=20"})
        )
        await decide(served, await _queued(served), {})

        reply = await changing

        assert (reply.status, reply.json["decided"], reply.json["phase"]) == (200, 2, "degraded")


async def test_a_put_takes_the_whole_spec():
    async with serving() as served:
        made = await served.create(priority=5)

        reply = await served.call("PUT", f"/v1/workloads/{made['id']}", {"name": "web", "replicas": 3})

        assert (reply.status, reply.json["version"], reply.json["priority"]) == (202, 2, 0)
        assert reply.json["spec"]["requests"] == {}


async def test_what_was_read_can_be_put_again():
    async with serving() as served:
        manifest = deployment_for("shop", "nginx", 3, {"cpu": "1"})
        made = await served.create(name="shop", manifest=manifest, replicas=None, requests=None)
        read = await served.call("GET", f"/v1/workloads/{made['id']}")

        reply = await served.call("PUT", f"/v1/workloads/{made['id']}", read.json["spec"])

        assert (reply.status, reply.json["version"]) == (202, 1)


@pytest.mark.parametrize(("field", "value"), [("name", "other"), ("team", "shop")])
async def test_name_and_team_of_a_workload_stay(field: str, value: str):
    async with serving() as served:
        made = await served.create()

        reply = await served.call("PATCH", f"/v1/workloads/{made['id']}", {field: value})

        assert (reply.status, reply.slug, reply.json["pointer"]) == (400, "invalid", f"/{field}")


async def test_a_stale_version_is_refused_and_changes_nothing():
    async with serving() as served:
        made = await served.create()
        path = f"/v1/workloads/{made['id']}"
        tag = (await served.call("GET", path)).headers["ETag"]
        changed = await served.call("PATCH", path, {"replicas": 3}, headers={"If-Match": tag})

        stale = [
            await served.call("PATCH", path, {"replicas": 9}, headers={"If-Match": tag}),
            await served.call("PUT", path, {"replicas": 9}, headers={"If-Match": tag}),
            await served.call("DELETE", path, headers={"If-Match": tag}),
            await served.call("PATCH", path, {"replicas": 9}, headers={"If-Match": "nonsense"}),
            await served.call("PATCH", path, {"replicas": 9}, headers={"If-Match": 'W/"2.0"'}),
        ]

        assert changed.status == 202
        assert [(reply.status, reply.slug) for reply in stale] == [(412, "precondition-failed")] * 5
        now = await served.call("GET", path, headers={})
        assert (now.json["version"], now.json["replicas"]) == (2, 3)


async def test_a_tag_stays_good_while_only_observations_move():
    async with serving() as served:
        await put_clusters(served.store, make_cluster("east"))
        made = await served.create()
        path = f"/v1/workloads/{made['id']}"
        tag = (await served.call("GET", path)).headers["ETag"]
        await decide(served, made["id"], {"east": 2})

        reply = await served.call("PATCH", path, {"replicas": 3}, headers={"If-Match": tag})

        assert reply.status == 202


async def test_deleting_leaves_the_end_to_the_scheduler():
    async with serving() as served:
        made = await served.create()
        path = f"/v1/workloads/{made['id']}"

        first = await served.call("DELETE", path)
        again = await served.call("DELETE", path)
        change = await served.call("PATCH", path, {"replicas": 3})

        assert (first.status, first.json["phase"], first.json["version"]) == (202, "deleting", 2)
        assert (again.status, again.json["version"]) == (202, 2)
        assert (change.status, change.slug) == (409, "conflict")


async def test_who_waits_for_the_end_hears_when_it_is_gone():
    async with serving() as served:
        made = await served.create()
        path = f"/v1/workloads/{made['id']}"
        deleting = asyncio.create_task(served.call("DELETE", path, headers={"Prefer": "wait=20"}))
        await _until_deleting(served, path)
        async with served.store.transaction() as tx:
            await tx.remove_workloads([made["id"]])

        reply = await deleting

        assert (reply.status, reply.raw) == (204, b"")
        assert (await served.call("GET", path)).slug == "not-found"


async def test_a_lease_is_renewed_only_where_the_caller_deploys():
    async with serving() as served:
        leased = await served.create()
        manifest = deployment_for("shop", "nginx", 1, {})
        carried = await served.create(name="shop", manifest=manifest, replicas=None, requests=None)
        served.clock.by_ms += 60_000

        renewed = await served.call("POST", f"/v1/workloads/{leased['id']}/renewal")
        refused = await served.call("POST", f"/v1/workloads/{carried['id']}/renewal")

        assert (renewed.status, renewed.json["version"]) == (200, 1)
        assert renewed.json["leaseUntil"] > leased["leaseUntil"]
        assert carried["leaseUntil"] is None
        assert (refused.status, refused.slug) == (409, "conflict")


async def test_the_caller_that_deploys_is_told_the_label_of_its_pods():
    async with serving() as served:
        await put_clusters(served.store, make_cluster("east"))
        made = await served.create()
        await decide(served, made["id"], {"east": 2})

        placement = (await served.call("GET", f"/v1/workloads/{made['id']}")).json["placements"][0]

        assert placement["podLabels"] == {"federation.io/placement": placement["id"]}


async def test_a_placement_that_its_member_cannot_schedule_degrades_the_workload():
    async with serving() as served:
        await put_clusters(served.store, make_cluster("east"))
        made = await served.create()
        seen = Seen(ready=0, unschedulable=2, unschedulable_reason="0/5 nodes are available")
        await decide(served, made["id"], {"east": 2}, seen)

        reply = await served.call("GET", f"/v1/workloads/{made['id']}")

        assert reply.json["phase"] == "degraded"
        assert reply.json["reasons"] == ["east: 2 unschedulable: 0/5 nodes are available"]


async def test_a_plan_writes_nothing():
    async with serving() as served:
        plan = await served.call("POST", "/v1/plans", WEB)
        dry = await served.call("POST", "/v1/workloads?dryRun=true", WEB)

        assert plan.status == dry.status == 200
        assert plan.json == dry.json
        assert plan.json["outcome"] == "placed"
        assert plan.json["placements"] == [{"cluster": "east", "replicas": 2}]
        assert [verdict["cluster"] for verdict in plan.json["explanation"]["clusters"]] == ["east"]
        assert await _all(served) == []


async def test_pages_show_each_workload_once():
    async with serving() as served:
        names = [f"w-{number}" for number in range(5)]
        for name in names:
            await served.create(name=name)

        seen, pages, after = [], 0, ""
        while True:
            page = (await served.call("GET", f"/v1/workloads?limit=2{after}")).json
            seen += [item["name"] for item in page["items"]]
            pages += 1
            if page["next"] is None:
                break
            after = f"&after={page['next']}"

        assert (seen, pages) == (names, 3)


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=-1",
        "limit=1000000000",
        "limit=x",
        "limit=1&limit=2",
        "limit=%D9%A1",
        "after=x",
        "after=%00",
        "phase=lost",
        "name=A",
        "team=..",
        "name=a%0Ab",
        "unknown=1",
        "after=" + "A" * 2000,
    ],
)
async def test_an_unfit_query_is_refused(query: str):
    async with serving() as served:
        reply = await served.call("GET", f"/v1/workloads?{query}")

        assert (reply.status, reply.slug) == (400, "invalid")


async def test_a_cursor_is_good_only_for_the_list_that_gave_it():
    async with serving() as served:
        for name in ("a", "b"):
            await served.create(name=name)
        cursor = (await served.call("GET", "/v1/workloads?limit=1")).json["next"]

        same = await served.call("GET", f"/v1/workloads?after={cursor}")
        other = await served.call("GET", f"/v1/workloads?after={cursor}&team=default")

        assert [item["name"] for item in same.json["items"]] == ["b"]
        assert (other.status, other.slug) == (400, "invalid")


async def test_lists_keep_to_their_filters():
    async with serving() as served:
        await served.create(name="a")
        await served.create(name="a", team="shop")
        doomed = await served.create(name="b")
        await served.call("DELETE", f"/v1/workloads/{doomed['id']}")

        async def names(query: str) -> list[tuple[str, str]]:
            items = (await served.call("GET", f"/v1/workloads?{query}")).json["items"]
            return [(item["team"], item["name"]) for item in items]

        assert await names("team=shop") == [("shop", "a")]
        assert await names("name=a") == [("default", "a"), ("shop", "a")]
        assert await names("phase=deleting") == [("default", "b")]


async def test_a_manifest_says_what_its_pods_ask_for():
    async with serving() as served:
        manifest = deployment_for("shop", "nginx", 3, {"cpu": "250m"}, {"nodeSelector": {"disk": "ssd"}})

        made = await served.create(name="shop", manifest=manifest, replicas=None, requests=None)
        scaled = await served.call("PATCH", f"/v1/workloads/{made['id']}", {"replicas": 12})

        assert (made["kind"], made["replicas"]) == ("Deployment", 3)
        assert (scaled.status, scaled.json["replicas"]) == (202, 12)
        async with served.store.reader() as reader:
            spec = (await reader.workloads_by_id([made["id"]]))[0].spec
        assert spec.components[0].requests == {"cpu": "250m"}
        assert spec.components[0].node_selector == {"disk": "ssd"}
        assert (spec.manifest or {})["spec"]["replicas"] == 12
        assert (spec.surge, spec.api) == (3, "apps/v1/Deployment")


async def test_scaling_a_job_changes_its_parallelism():
    async with serving() as served:
        made = await served.create(name="sum", manifest=JOB, replicas=None, requests=None)

        scaled = await served.call("PATCH", f"/v1/workloads/{made['id']}", {"replicas": 5})

        assert (made["replicas"], scaled.json["replicas"]) == (2, 5)
        assert scaled.json["spec"]["manifest"]["spec"]["parallelism"] == 5


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"requests": {"cpu": "2"}}, "/requests"),
        ({"nodeSelector": {"disk": "hdd"}}, "/nodeSelector"),
        ({"name": "other"}, "/name"),
        ({"components": [{"replicas": 1}]}, "/components"),
    ],
)
async def test_a_manifest_is_not_contradicted(changes: dict[str, Any], pointer: str):
    async with serving() as served:
        body = {"manifest": deployment_for("shop", "nginx", 3, {"cpu": "1"}), **changes}

        reply = await served.call("POST", "/v1/workloads", body)

        assert (reply.status, reply.slug, reply.json["pointer"]) == (400, "invalid", pointer)


async def test_what_is_done_and_what_is_refused_is_written_down():
    async with serving() as served:
        made = await served.create()
        path = f"/v1/workloads/{made['id']}"
        await served.call("PATCH", path, {"replicas": 3})
        await served.call("PATCH", path, {"replicas": 4}, headers={"If-Match": '"1.0"'})
        await served.call("DELETE", "/v1/workloads/absent")

        rows = await audit_rows(served.store)

        assert [(row.who, row.what, row.outcome.partition(":")[0]) for row in rows] == [
            ("local", "workload.create", "done"),
            ("local", "workload.change", "done"),
            ("local", "patch_workload", "refused"),
            ("local", "delete_workload", "refused"),
        ]
        assert '"replicas":2' in rows[1].before
        assert '"replicas":3' in rows[1].after


async def _queued(served: Served) -> str:
    """The id of the one workload that waits for a decision."""
    for _ in range(500):
        async with served.store.reader() as reader:
            found = await reader.queue(2)
        if found:
            return found[0].id
        await asyncio.sleep(0.01)
    raise AssertionError("nothing was queued")


async def _until_deleting(served: Served, path: str) -> None:
    for _ in range(500):
        if (await served.call("GET", path)).json["phase"] == "deleting":
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it was not deleted")


async def _all(served: Served) -> list[str]:
    async with served.store.reader() as reader:
        return [workload.id for workload in await reader.queue(100)]
