"""The gateway on a real API server with RBAC: the contract of all gateways, and what only a real server can show."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from adapters.kubernetes.changes import collection
from adapters.kubernetes.client import Limits
from adapters.kubernetes.gateway import KubernetesGateway, Options
from adapters.kubernetes.kinds import DEPLOYMENT
from adapters.kubernetes.listing import Listing, Resource
from adapters.kubernetes.objects import Controller
from adapters.kubernetes.watch import Pace, Reflector
from federation.domain.errors import Invalid, Unavailable
from federation.domain.member import PLACEMENT_LABEL, ObjectKey
from tests.contract.gateway_suite import GatewayContract
from tests.contract.gateway_world import (
    change,
    has_listed,
    key_of,
    listed,
    live,
    make_deployment,
    make_job,
    make_manifest,
    placement_of,
    settled,
    stand,
    subscribed,
)
from tests.integration.kubernetes_world import LEASES, ORDERS, RealWorld, agent_token, write_kubeconfig
from tests.testbed.member import MemberCluster

SMALL = {"cpu": "4", "memory": "8Gi"}
IMPATIENT = Options(limits=Limits(request_seconds=1.0), pace=Pace(most_pause_seconds=0.5))


@pytest.fixture
async def world(member: MemberCluster, tmp_path: Path) -> AsyncIterator[RealWorld]:
    token = await agent_token(member)
    for left in (LEASES, ORDERS):
        await member.request("DELETE", left)
    world = RealWorld(member, write_kubeconfig(member, tmp_path / "agent.kubeconfig", token))
    yield world
    await world.gateway.close()


def make_autoscaler(least: int, most: int) -> dict[str, Any]:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    return {"metadata": {"name": "web"}, "spec": {"scaleTargetRef": target, "minReplicas": least, "maxReplicas": most}}


class TestKubernetesGateway(GatewayContract):
    """Run as the agent's own ServiceAccount: the role that it ships with suffices, for nothing is forbidden."""

    @pytest.fixture(autouse=True)
    async def nothing_is_forbidden(self, world: RealWorld) -> AsyncIterator[None]:
        yield
        answers = world.real.api.answers
        assert answers[401] + answers[403] == 0


# --- what the agent may not do -------------------------------------------------------------------------------------------


async def test_the_role_gives_no_more_than_is_written_there(world: RealWorld) -> None:
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": "default"},
    }
    token = await agent_token(world.member)
    path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"

    rules = (await world.member.request("POST", path, review, token=token)).checked()["status"]["resourceRules"]

    reviews = {"selfsubjectaccessreviews", "selfsubjectrulesreviews", "selfsubjectreviews"}
    granted = {resource: set(rule["verbs"]) for rule in rules for resource in rule["resources"]}
    verbs = {verb for rule in rules for verb in rule["verbs"]}
    assert set(granted) - reviews == {
        "nodes",
        "pods",
        "pods/eviction",
        "namespaces",
        "deployments",
        "replicasets",
        "statefulsets",
        "jobs",
        "horizontalpodautoscalers",
    }
    assert verbs == {"get", "list", "watch", "create", "patch", "delete"}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v1/secrets"),
        ("GET", "/api/v1/namespaces/federation-system/secrets"),
        ("POST", "/api/v1/namespaces/default/pods"),
        ("POST", "/api/v1/namespaces/default/pods/web/exec"),
        ("POST", "/api/v1/namespaces/default/serviceaccounts/default/token"),
        ("GET", "/api/v1/namespaces/default/configmaps"),
        ("GET", "/api/v1/namespaces/federation-system/configmaps/another"),
        ("DELETE", "/api/v1/namespaces/default"),
        ("PATCH", "/api/v1/namespaces/default"),
        ("DELETE", "/api/v1/nodes/any"),
        ("POST", "/apis/rbac.authorization.k8s.io/v1/clusterroles"),
    ],
)
async def test_what_the_agent_does_not_need_is_forbidden(world: RealWorld, method: str, path: str) -> None:
    token = await agent_token(world.member)

    answer = await world.member.request(method, path, {} if method != "GET" else None, token=token)

    assert answer.status == 403


async def test_a_kind_without_a_role_is_refused_with_the_servers_words(world: RealWorld) -> None:
    await world.gateway.ensure_namespace(world.namespace, "shop")
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": world.namespace},
        "spec": {"ports": [{"port": 80}]},
    }

    with pytest.raises(Invalid, match='cannot patch resource "services"'):
        await world.gateway.apply(service, "", "")


# --- what is refused -----------------------------------------------------------------------------------------------------


async def test_a_kind_that_the_cluster_lacks_is_invalid(world: RealWorld) -> None:
    with pytest.raises(Invalid, match="has no"):
        await world.gateway.read(ObjectKey("example.org/v1/Widget", world.namespace, "web"))


async def test_a_field_that_does_not_exist_is_invalid_and_leaves_nothing(world: RealWorld) -> None:
    await world.gateway.ensure_namespace(world.namespace, "shop")
    wrong = make_deployment(world, 1)
    wrong["spec"]["replicsa"] = 3

    with pytest.raises(Invalid, match="replicsa"):
        await world.gateway.apply(wrong, "", "")

    assert await world.gateway.read(key_of(world)) is None


async def test_a_value_of_the_wrong_type_is_invalid(world: RealWorld) -> None:
    await world.gateway.ensure_namespace(world.namespace, "shop")
    wrong = make_deployment(world, 1)
    wrong["spec"]["replicas"] = "three"

    with pytest.raises(Invalid, match="replicas"):
        await world.gateway.apply(wrong, "", "")


async def test_a_namespace_that_somebody_else_made_is_left_alone(world: RealWorld) -> None:
    await world.member.create_namespace(world.namespace)
    before = await world.member.get(f"/api/v1/namespaces/{world.namespace}")

    with pytest.raises(Invalid, match="NotOurs"):
        await world.gateway.ensure_namespace(world.namespace, "shop")

    assert await world.member.get(f"/api/v1/namespaces/{world.namespace}") == before


async def test_a_namespace_of_another_team_is_refused(world: RealWorld) -> None:
    await world.gateway.ensure_namespace(world.namespace, "shop")

    with pytest.raises(Invalid, match="belongs to team shop"):
        await world.gateway.ensure_namespace(world.namespace, "mail")


async def test_a_new_namespace_enforces_the_baseline_of_pod_security(world: RealWorld) -> None:
    await world.gateway.ensure_namespace(world.namespace, "shop")

    labels = (await world.member.get(f"/api/v1/namespaces/{world.namespace}"))["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "baseline"
    assert labels["federation.io/team"] == "shop"


@pytest.mark.parametrize("placement", ["", "a,b", "x=y", "../pods", "a" * 64, "a\nb"])
async def test_a_placement_id_that_is_no_label_is_invalid(world: RealWorld, placement: str) -> None:
    with pytest.raises(Invalid, match="not a placement id"):
        await world.gateway.list_placement(placement)


async def test_what_a_namespace_that_is_going_refuses_is_tried_again_later(world: RealWorld) -> None:
    await world.gateway.ensure_namespace(world.namespace, "shop")
    await world.member.delete(f"/api/v1/namespaces/{world.namespace}")

    with pytest.raises(Unavailable, match="is being terminated"):
        await world.gateway.apply(make_deployment(world, 1), "", "")


# --- lists ---------------------------------------------------------------------------------------------------------------


async def test_a_real_server_streams_its_lists(world: RealWorld) -> None:
    await world.gateway.ensure_namespace(world.namespace, "shop")
    made = [await world.gateway.apply(make_named(world, f"web-{n}"), "", "") for n in range(3)]
    reflector = Reflector(world.real.api, Resource(path=collection(DEPLOYMENT), kind=Controller))
    before = world.real.api.answers.total()

    uids: set[str] = set()
    async with asyncio.timeout(10), aclosing(reflector.follow()) as batches:
        async for batch in batches:
            uids |= {read.metadata.uid for _, read in batch.told}
            if batch.complete:
                break

    assert {each.uid for each in made} <= uids
    assert world.real.api.answers.total() - before == 1


async def test_a_long_list_is_read_in_pages_that_belong_together(world: RealWorld) -> None:
    await world.gateway.ensure_namespace(world.namespace, "shop")
    made = [await world.gateway.apply(make_named(world, f"web-{n}"), "", "") for n in range(5)]
    resource = Resource(
        path=collection(DEPLOYMENT), kind=Controller, selector=f"{PLACEMENT_LABEL}={placement_of(world)}"
    )

    pages = [page async for page in Listing(world.real.api, resource, page=2).pages()]

    assert [len(page) for page in pages] == [2, 2, 1]
    assert {read.metadata.uid for page in pages for read in page} == {each.uid for each in made}


def make_named(world: RealWorld, name: str) -> dict[str, Any]:
    made = make_deployment(world, 0, name=name)
    made["spec"]["selector"]["matchLabels"] = {"app": name}
    return made


# --- what controllers make of it -----------------------------------------------------------------------------------------


async def test_a_spec_is_not_observed_while_the_controllers_stand_still(world: RealWorld) -> None:
    await world.add_node("n1", SMALL)
    await stand(world, make_deployment(world, 2), 2)
    controllers = world.member._plane.controller_manager
    controllers.pause()
    try:
        changed = await change(world, make_deployment(world, 1))
        found = (await listed(world)).objects[0]
    finally:
        controllers.resume()

    assert (changed.observed, found.observed) == (False, False)
    assert (await settled(world, 1)).objects[0].observed


async def test_a_scale_counts_as_observed_only_with_no_more_pods_than_asked_for(world: RealWorld) -> None:
    await world.add_node("n1", SMALL)
    await stand(world, make_deployment(world, 6, requests={"cpu": "10m"}), 6)

    async with subscribed(world.gateway) as told:
        await world.wait_until(lambda: has_listed(told))
        for replicas in (1, 5, 2, 6, 0):
            await change(world, make_deployment(world, replicas, requests={"cpu": "10m"}))

            async def is_observed(asked: int = replicas) -> bool:
                listing = await listed(world)
                observed = listing.objects[0].observed and listing.objects[0].replicas == asked
                assert not observed or len(live(listing)) <= asked
                return observed

            await world.wait_until(is_observed)

        async def is_told() -> bool:
            return all(
                each.observed and each.replicas == 0 for each in told.objects.values() if each.key == key_of(world)
            )

        await world.wait_until(is_told)


async def test_a_quota_that_refuses_pods_is_told_in_the_servers_words(world: RealWorld) -> None:
    await world.add_node("n1", SMALL)
    await world.gateway.ensure_namespace(world.namespace, "shop")
    await world.make("/api/v1/resourcequotas", {"metadata": {"name": "tight"}, "spec": {"hard": {"pods": "1"}}})
    await world.gateway.apply(make_deployment(world, 3), "", "")

    async def is_refused() -> bool:
        found = await world.gateway.read(key_of(world))
        return found is not None and "exceeded quota: tight" in found.refusal and found.observed

    await world.wait_until(is_refused)


async def test_an_autoscaler_is_seen_by_reading_and_by_watching(world: RealWorld) -> None:
    await world.gateway.ensure_namespace(world.namespace, "shop")

    async with subscribed(world.gateway) as told:
        await world.wait_until(lambda: has_listed(told))
        made = await world.gateway.apply(make_deployment(world, 1), "", "")
        await world.make("/apis/autoscaling/v2/horizontalpodautoscalers", make_autoscaler(1, 7))

        async def knows_it() -> bool:
            return made.uid in told.objects and told.objects[made.uid].autoscaler == (1, 7)

        await world.wait_until(knows_it)
        found = await world.gateway.read(key_of(world))

    assert found is not None
    assert found.autoscaler == (1, 7)


async def test_replicas_that_another_manager_has_set_are_no_longer_ours(world: RealWorld) -> None:
    await world.gateway.ensure_namespace(world.namespace, "shop")
    made = await world.gateway.apply(make_deployment(world, 1), "", "")
    scale = f"/apis/apps/v1/namespaces/{world.namespace}/deployments/web/scale"

    await world.member.patch(scale, {"spec": {"replicas": 3}})

    found = await world.gateway.read(key_of(world))
    assert found is not None
    assert (made.owned_replicas, found.owned_replicas, found.replicas) == (True, False, 3)


async def test_a_disruption_budget_forbids_an_eviction_for_now(world: RealWorld) -> None:
    await world.add_node("n1", SMALL)
    standing = await stand(world, make_deployment(world, 2), 2)
    budget = {"metadata": {"name": "all"}, "spec": {"minAvailable": 2, "selector": {"matchLabels": {"app": "web"}}}}
    await world.make("/apis/policy/v1/poddisruptionbudgets", budget)

    accepted = await world.gateway.evict(standing.pods[0], 0)

    assert not accepted
    assert len(live(await listed(world))) == 2


async def test_a_job_is_observed_once_no_more_run_than_it_wants(world: RealWorld) -> None:
    await world.add_node("n1", SMALL)
    await world.gateway.ensure_namespace(world.namespace, "shop")
    job = make_job(world, parallelism=3, completions=3)
    job["spec"]["template"]["metadata"]["annotations"] = {"testbed/runs-for": "60s"}
    made = await world.gateway.apply(job, "", "")

    async def is_observed() -> bool:
        found = await world.gateway.read(key_of(world, "batch/v1/Job"))
        return found is not None and found.observed and len((await listed(world)).pods) == 3

    await world.wait_until(is_observed)
    assert (made.observed, made.replicas) == (False, 3)


async def test_a_stateful_set_without_room_is_progressing(world: RealWorld) -> None:
    spec = {"replicas": 1, "selector": {"matchLabels": {"app": "web"}}, "serviceName": "web"}
    await world.gateway.ensure_namespace(world.namespace, "shop")
    await world.gateway.apply(make_manifest(world, "StatefulSet", spec), "", "")

    async def is_observed() -> bool:
        found = await world.gateway.read(key_of(world, "apps/v1/StatefulSet"))
        return found is not None and found.observed and found.condition == "Progressing"

    await world.wait_until(is_observed)


# --- a server that fails -------------------------------------------------------------------------------------------------


async def test_a_server_that_hangs_is_unavailable_within_the_limit(world: RealWorld) -> None:
    gateway = world.another_gateway(IMPATIENT)
    await gateway.load_orders()
    world.member.pause_api()
    try:
        async with asyncio.timeout(3):
            with pytest.raises(Unavailable, match="no answer within 1 s"):
                await gateway.load_orders()
    finally:
        world.member.resume_api()

    await world.wait_until(lambda: _loads(gateway))
    await gateway.close()


async def test_a_watch_goes_on_after_the_server_was_away(world: RealWorld) -> None:
    await world.gateway.ensure_namespace(world.namespace, "shop")
    gateway = world.another_gateway(IMPATIENT)

    async with subscribed(gateway) as told:
        await world.wait_until(lambda: has_listed(told))
        await asyncio.to_thread(world.member.stop_api)
        await asyncio.to_thread(world.member.start_api)
        made = (await world.gateway.apply(make_deployment(world, 0), "", "")).uid

        async def knows_it() -> bool:
            return made in told.objects

        await world.wait_until(knows_it)

    await gateway.close()


async def test_closing_the_gateway_ends_its_watches(world: RealWorld) -> None:
    gateway, batches = world.another_gateway(), 0

    async with asyncio.timeout(10):
        async for _ in gateway.changes():
            batches += 1
            await gateway.close()

    assert batches >= 1


async def _loads(gateway: KubernetesGateway) -> bool:
    try:
        await gateway.load_orders()
    except Unavailable:
        return False
    return True
