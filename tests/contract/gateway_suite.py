"""What every `ClusterGateway` promises, as sentences: subclass `GatewayContract` and give it a `world` fixture."""

import pytest

from federation.domain.errors import Conflict, Invalid
from federation.domain.events import Taint
from federation.domain.member import PLACEMENT_LABEL, MemberObject, MemberPod, Relisted
from federation.domain.records import Orders
from federation.ports import LeaseState, PlacementListing
from tests.contract.gateway_world import (
    POD,
    World,
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


class PreconditionContract:
    """Writes touch only what their writer has seen (protocol 4.3)."""

    async def test_what_was_applied_is_read_back_with_its_marks(self, world: World) -> None:
        await world.gateway.ensure_namespace(world.namespace, "shop")

        applied = await world.gateway.apply(make_deployment(world, 2), "", "")

        found = await world.gateway.read(key_of(world))
        assert found is not None
        assert (found.uid, found.key, found.placement) == (applied.uid, key_of(world), placement_of(world))
        assert (found.workload, found.team, found.version, found.generation) == ("web", "shop", 7, 3)
        assert (found.revision, found.replicas, found.requests) == ("1", 2, POD)

    async def test_what_is_not_there_is_read_as_none(self, world: World) -> None:
        await world.gateway.ensure_namespace(world.namespace, "shop")

        found = await world.gateway.read(key_of(world))

        assert found is None

    async def test_a_creating_apply_never_takes_over(self, world: World) -> None:
        await world.gateway.ensure_namespace(world.namespace, "shop")
        first = await world.gateway.apply(make_deployment(world, 0), "", "")

        with pytest.raises(Conflict):
            await world.gateway.apply(make_deployment(world, 5, placement="another"), "", "")

        found = await world.gateway.read(key_of(world))
        assert found is not None
        assert (found.uid, found.replicas, found.placement) == (first.uid, 0, placement_of(world))

    async def test_an_apply_onto_the_version_read_changes_that_object(self, world: World) -> None:
        await world.gateway.ensure_namespace(world.namespace, "shop")
        first = await world.gateway.apply(make_deployment(world, 0), "", "")

        changed = await change(world, make_deployment(world, 3))

        assert (changed.uid, changed.replicas) == (first.uid, 3)
        assert changed.resource_version != first.resource_version

    async def test_an_apply_onto_a_stale_version_conflicts(self, world: World) -> None:
        await world.gateway.ensure_namespace(world.namespace, "shop")
        first = await world.gateway.apply(make_deployment(world, 0), "", "")
        await change(world, make_deployment(world, 3))

        with pytest.raises(Conflict):
            await world.gateway.apply(make_deployment(world, 9), first.uid, first.resource_version)

        found = await world.gateway.read(key_of(world))
        assert found is not None
        assert found.replicas == 3

    async def test_an_apply_onto_an_absent_object_conflicts_and_creates_nothing(self, world: World) -> None:
        await world.gateway.ensure_namespace(world.namespace, "shop")

        with pytest.raises(Conflict):
            await world.gateway.apply(make_deployment(world, 1), "00000000-0000-4000-8000-000000000000", "17")

        assert await world.gateway.read(key_of(world)) is None

    async def test_an_apply_onto_an_object_that_was_made_again_conflicts(self, world: World) -> None:
        await world.gateway.ensure_namespace(world.namespace, "shop")
        first = await world.gateway.apply(make_deployment(world, 0), "", "")
        await world.gateway.delete(first.key, first.uid)

        async def is_gone() -> bool:
            return await world.gateway.read(first.key) is None

        await world.wait_until(is_gone)
        second = await world.gateway.apply(make_deployment(world, 0), "", "")

        with pytest.raises(Conflict):
            await world.gateway.apply(make_deployment(world, 9), first.uid, second.resource_version)

    async def test_content_that_the_server_refuses_is_invalid_and_leaves_nothing(self, world: World) -> None:
        await world.gateway.ensure_namespace(world.namespace, "shop")
        wrong = make_deployment(world, 1)
        wrong["spec"]["selector"]["matchLabels"] = {"app": "another"}

        with pytest.raises(Invalid):
            await world.gateway.apply(wrong, "", "")

        assert await world.gateway.read(key_of(world)) is None

    async def test_an_object_in_a_namespace_that_is_not_there_is_invalid(self, world: World) -> None:
        with pytest.raises(Invalid):
            await world.gateway.apply(make_deployment(world, 1), "", "")

    async def test_a_namespace_may_be_ensured_again(self, world: World) -> None:
        await world.gateway.ensure_namespace(world.namespace, "shop")

        await world.gateway.ensure_namespace(world.namespace, "shop")

        assert (await world.gateway.apply(make_deployment(world, 0), "", "")).key == key_of(world)


class DeletionContract:
    """Deletions and evictions hit that very object or pod, and come to an end."""

    async def test_a_deletion_takes_object_replica_sets_and_pods(self, world: World) -> None:
        await world.add_node("n1", {"cpu": "4", "memory": "8Gi"})
        standing = await stand(world, make_deployment(world, 3), 3)

        await world.gateway.delete(key_of(world), standing.objects[0].uid)

        async def is_gone() -> bool:
            return await listed(world) == PlacementListing()

        await world.wait_until(is_gone)
        assert await world.gateway.read(key_of(world)) is None

    async def test_an_object_stays_as_terminating_while_its_pods_do(self, world: World) -> None:
        await world.add_node("n1", {"cpu": "4", "memory": "8Gi"})
        standing = await stand(world, make_deployment(world, 3), 3)

        await world.gateway.delete(key_of(world), standing.objects[0].uid)

        async def is_gone() -> bool:
            listing = await listed(world)
            assert listing.objects or not listing.pods
            assert all(each.terminating for each in listing.objects)
            return not listing.objects

        await world.wait_until(is_gone)

    async def test_deleting_again_is_no_error(self, world: World) -> None:
        await world.gateway.ensure_namespace(world.namespace, "shop")
        made = await world.gateway.apply(make_deployment(world, 0), "", "")
        await world.gateway.delete(made.key, made.uid)

        async def is_gone() -> bool:
            await world.gateway.delete(made.key, made.uid)
            return await world.gateway.read(made.key) is None

        await world.wait_until(is_gone)
        await world.gateway.delete(made.key, made.uid)

    async def test_a_deletion_of_another_uid_conflicts_and_deletes_nothing(self, world: World) -> None:
        await world.gateway.ensure_namespace(world.namespace, "shop")
        made = await world.gateway.apply(make_deployment(world, 0), "", "")

        with pytest.raises(Conflict):
            await world.gateway.delete(made.key, "00000000-0000-4000-8000-000000000000")

        found = await world.gateway.read(made.key)
        assert found is not None
        assert not found.terminating

    async def test_an_evicted_pod_goes_and_another_comes(self, world: World) -> None:
        await world.add_node("n1", {"cpu": "4", "memory": "8Gi"})
        victim = (await stand(world, make_deployment(world, 2), 2)).pods[0]

        accepted = await world.gateway.evict(victim, 0)

        async def is_replaced() -> bool:
            pods = (await listed(world)).pods
            return len(pods) == 2 and all(pod.ready and pod.uid != victim.uid for pod in pods)

        assert accepted
        await world.wait_until(is_replaced)

    async def test_an_eviction_by_another_uid_leaves_the_pod_of_that_name(self, world: World) -> None:
        await world.add_node("n1", {"cpu": "4", "memory": "8Gi"})
        pod = (await stand(world, make_deployment(world, 1), 1)).pods[0]
        imposter = MemberPod(uid="00000000-0000-4000-8000-000000000000", namespace=pod.namespace, name=pod.name)

        with pytest.raises(Conflict):
            await world.gateway.evict(imposter, 0)
        with pytest.raises(Conflict):
            await world.gateway.delete_pod(imposter)

        assert [each.uid for each in live(await listed(world))] == [pod.uid]

    async def test_to_evict_or_delete_a_pod_that_is_gone_is_no_error(self, world: World) -> None:
        absent = MemberPod(uid="00000000-0000-4000-8000-000000000000", namespace=world.namespace, name="nobody")
        await world.gateway.ensure_namespace(world.namespace, "shop")

        accepted = await world.gateway.evict(absent, 0)

        assert accepted
        await world.gateway.delete_pod(absent)

    async def test_a_deleted_pod_is_made_again(self, world: World) -> None:
        await world.add_node("n1", {"cpu": "4", "memory": "8Gi"})
        victim = (await stand(world, make_deployment(world, 1), 1)).pods[0]

        await world.gateway.delete_pod(victim)

        async def is_replaced() -> bool:
            pods = (await listed(world)).pods
            return len(pods) == 1 and pods[0].ready and pods[0].uid != victim.uid

        await world.wait_until(is_replaced)


class ControllerContract:
    """What the member's own controllers and scheduler do, seen through the gateway."""

    async def test_the_pods_of_a_deployment_are_bound_and_become_ready(self, world: World) -> None:
        await world.add_node("n1", {"cpu": "4", "memory": "8Gi"})

        listing = await stand(world, make_deployment(world, 4), 4)

        assert listing.replica_sets == 1
        assert [each.uid for each in listing.objects] == [(await self._object(world)).uid]
        assert all(pod.node.endswith("n1") and pod.phase == "Running" for pod in listing.pods)
        assert all(pod.requests == {"cpu": 500, "memory": 256 * 2**20} for pod in listing.pods)
        assert {(pod.placement, pod.revision) for pod in listing.pods} == {(placement_of(world), "1")}

    async def test_a_scale_down_leaves_so_many_pods(self, world: World) -> None:
        await world.add_node("n1", {"cpu": "4", "memory": "8Gi"})
        await stand(world, make_deployment(world, 4), 4)

        await change(world, make_deployment(world, 1))

        listing = await settled(world, 1)
        assert (listing.replica_sets, listing.objects[0].replicas) == (1, 1)

    async def test_a_rollout_never_has_more_live_pods_than_replicas_and_surge(self, world: World) -> None:
        await world.add_node("n1", {"cpu": "16", "memory": "32Gi"})
        await stand(world, make_deployment(world, 8), 8)

        await change(world, make_deployment(world, 8, revision="2"))

        async def is_rolled_out() -> bool:
            listing = await listed(world)
            assert len(live(listing)) <= 10
            return len(listing.pods) == 8 and all(pod.ready and pod.revision == "2" for pod in listing.pods)

        await world.wait_until(is_rolled_out)
        assert (await settled(world, 8, "2")).objects[0].revision == "2"

    async def test_a_spec_counts_as_observed_only_after_it_was_acted_upon(self, world: World) -> None:
        await world.add_node("n1", {"cpu": "4", "memory": "8Gi"})
        await stand(world, make_deployment(world, 1), 1)

        await change(world, make_deployment(world, 3))

        async def is_observed() -> bool:
            before = await listed(world)
            if before.objects[0].observed:
                assert len(live(await listed(world))) == 3
            return before.objects[0].observed

        await world.wait_until(is_observed)

    async def test_a_job_runs_to_its_end(self, world: World) -> None:
        await world.add_node("n1", {"cpu": "4", "memory": "8Gi"})
        await world.gateway.ensure_namespace(world.namespace, "shop")

        await world.gateway.apply(make_job(world, parallelism=2, completions=5), "", "")

        async def is_complete() -> bool:
            listing = await listed(world)
            assert len([pod for pod in listing.pods if not pod.terminal]) <= 2
            return listing.objects[0].condition == "Complete"

        await world.wait_until(is_complete)
        found = await self._object(world, "batch/v1/Job")
        assert (found.succeeded, found.failed) == (5, 0)

    async def test_a_stateful_set_comes_in_order_and_goes_in_reverse(self, world: World) -> None:
        await world.add_node("n1", {"cpu": "4", "memory": "8Gi"})
        spec = {"selector": {"matchLabels": {"app": "web"}}, "serviceName": "web"}
        await world.gateway.ensure_namespace(world.namespace, "shop")
        await world.gateway.apply(make_manifest(world, "StatefulSet", {"replicas": 3, **spec}), "", "")
        assert {pod.name for pod in (await settled(world, 3)).pods} == {"web-0", "web-1", "web-2"}

        await change(world, make_manifest(world, "StatefulSet", {"replicas": 1, **spec}))

        assert [pod.name for pod in (await settled(world, 1)).pods] == ["web-0"]

    async def test_a_pod_that_fits_nowhere_says_why(self, world: World) -> None:
        await world.add_node("n1", {"cpu": "4", "memory": "8Gi"})
        await world.gateway.ensure_namespace(world.namespace, "shop")

        await world.gateway.apply(make_deployment(world, 1, requests={"cpu": "900"}), "", "")

        async def is_refused() -> bool:
            return any(pod.unschedulable for pod in (await listed(world)).pods)

        await world.wait_until(is_refused)
        (pod,) = (await listed(world)).pods
        assert "nodes are available" in pod.unschedulable
        assert "Insufficient cpu" in pod.unschedulable
        assert (pod.node, pod.ready, pod.phase) == ("", False, "Pending")

    async def test_a_taint_keeps_out_who_does_not_tolerate_it(self, world: World) -> None:
        await world.add_node("gpu", {"cpu": "4", "memory": "8Gi"}, (Taint(key="gpu", effect="NoSchedule"),))
        await world.gateway.ensure_namespace(world.namespace, "shop")
        await world.gateway.apply(make_deployment(world, 1), "", "")

        async def is_refused() -> bool:
            return any("untolerated taint" in pod.unschedulable for pod in (await listed(world)).pods)

        await world.wait_until(is_refused)
        await change(world, make_deployment(world, 1, pod={"tolerations": [{"key": "gpu", "operator": "Exists"}]}))

        assert (await settled(world, 1)).pods[0].node.endswith("gpu")

    async def test_what_did_not_fit_is_bound_once_a_node_comes(self, world: World) -> None:
        await world.gateway.ensure_namespace(world.namespace, "shop")
        await world.gateway.apply(make_deployment(world, 2), "", "")

        async def is_refused() -> bool:
            return any(pod.unschedulable for pod in (await listed(world)).pods)

        await world.wait_until(is_refused)
        await world.add_node("late", {"cpu": "4", "memory": "8Gi"})

        assert all(not pod.unschedulable for pod in (await settled(world, 2)).pods)

    async def _object(self, world: World, api: str = "apps/v1/Deployment") -> MemberObject:
        found = await world.gateway.read(key_of(world, api))
        assert found is not None
        return found


class AgentStateContract:
    """Orders and the Lease: what an agent leaves for its successor."""

    async def test_orders_are_read_back_as_stored(self, world: World) -> None:
        await world.gateway.store_orders(Orders(generation=4, done=311))

        orders = await world.gateway.load_orders()

        assert orders == Orders(generation=4, done=311)

    async def test_one_holder_at_a_time_has_the_lease(self, world: World) -> None:
        first = await world.gateway.hold_lease(f"a-{world.pool}", 30)

        second = await world.gateway.hold_lease(f"b-{world.pool}", 30)

        assert first is not None
        assert second is None
        await world.gateway.drop_lease(f"a-{world.pool}")

    async def test_to_renew_the_lease_changes_neither_uid_nor_transitions(self, world: World) -> None:
        first = await world.gateway.hold_lease(f"a-{world.pool}", 30)

        again = await world.gateway.hold_lease(f"a-{world.pool}", 30)

        assert again == first
        await world.gateway.drop_lease(f"a-{world.pool}")

    async def test_a_new_holder_raises_the_transitions_under_the_same_uid(self, world: World) -> None:
        first = await world.gateway.hold_lease(f"a-{world.pool}", 30)
        await world.gateway.drop_lease(f"a-{world.pool}")

        second = await world.gateway.hold_lease(f"b-{world.pool}", 30)

        assert first is not None
        assert second is not None
        assert second.uid == first.uid
        assert second.transitions > first.transitions
        await world.gateway.drop_lease(f"b-{world.pool}")

    async def test_a_lease_that_is_not_renewed_can_be_taken_over(self, world: World) -> None:
        first = await world.gateway.hold_lease(f"a-{world.pool}", 2)
        taken: list[LeaseState] = []

        async def is_taken() -> bool:
            state = await world.gateway.hold_lease(f"b-{world.pool}", 2)
            taken.extend([state] if state else [])
            return state is not None

        await world.wait_until(is_taken)
        assert first is not None
        assert taken[0].transitions > first.transitions
        await world.gateway.drop_lease(f"b-{world.pool}")

    async def test_to_drop_anothers_lease_does_nothing(self, world: World) -> None:
        first = await world.gateway.hold_lease(f"a-{world.pool}", 30)

        await world.gateway.drop_lease(f"b-{world.pool}")

        assert await world.gateway.hold_lease(f"b-{world.pool}", 30) is None
        assert await world.gateway.hold_lease(f"a-{world.pool}", 30) == first
        await world.gateway.drop_lease(f"a-{world.pool}")

    async def test_the_cluster_says_its_version_and_kinds(self, world: World) -> None:
        facts = await world.gateway.cluster_facts()

        assert facts.kubernetes_version.startswith("v1.")
        assert {"apps/v1/Deployment", "apps/v1/StatefulSet", "batch/v1/Job"} <= set(facts.apis)


class WatchContract:
    """`changes()` tells everything, then what changes."""

    async def test_a_new_subscriber_is_told_everything_first(self, world: World) -> None:
        await world.add_node("n1", {"cpu": "4", "memory": "8Gi"})
        standing = await stand(world, make_deployment(world, 2), 2)

        async with subscribed(world.gateway) as told:
            await world.wait_until(lambda: has_listed(told))

            kinds = [type(each) for each in told.changes]
            assert kinds.index(Relisted) == 0
            assert {each.kind for each in told.changes if isinstance(each, Relisted)} == {"nodes", "pods", "objects"}
            assert any(name.endswith("n1") for name in told.nodes)
            assert {pod.uid for pod in standing.pods} <= set(told.pods)
            assert standing.objects[0].uid in told.objects

    async def test_a_subscriber_sees_pods_come_bind_and_go(self, world: World) -> None:
        await world.add_node("n1", {"cpu": "4", "memory": "8Gi"})

        async with subscribed(world.gateway) as told:
            await world.wait_until(lambda: has_listed(told))
            standing = await stand(world, make_deployment(world, 3), 3)

            async def knows_all() -> bool:
                return [pod.ready for pod in told.pods_of(placement_of(world))] == [True] * 3

            await world.wait_until(knows_all)
            assert all(pod.node.endswith("n1") for pod in told.pods_of(placement_of(world)))
            await world.gateway.delete(key_of(world), standing.objects[0].uid)

            async def knows_none() -> bool:
                return {standing.objects[0].uid, *(pod.uid for pod in standing.pods)} <= told.gone

            await world.wait_until(knows_none)
            assert told.pods_of(placement_of(world)) == []

    async def test_two_subscribers_are_told_the_same(self, world: World) -> None:
        await world.add_node("n1", {"cpu": "4", "memory": "8Gi"})

        async with subscribed(world.gateway) as one, subscribed(world.gateway) as other:
            await world.wait_until(lambda: has_listed(one))
            await world.wait_until(lambda: has_listed(other))
            standing = await stand(world, make_deployment(world, 2), 2)

            async def both_know() -> bool:
                wanted = {pod.uid: pod for pod in standing.pods}
                return all(
                    {pod.uid: pod for pod in told.pods_of(placement_of(world))} == wanted for told in (one, other)
                )

            await world.wait_until(both_know)

    async def test_objects_without_a_placement_are_not_told(self, world: World) -> None:
        await world.gateway.ensure_namespace(world.namespace, "shop")
        foreign = make_deployment(world, 0)
        del foreign["metadata"]["labels"][PLACEMENT_LABEL]

        async with subscribed(world.gateway) as told:
            await world.wait_until(lambda: has_listed(told))
            unplaced = await world.gateway.apply(foreign, "", "")
            placed = make_deployment(world, 0, name="marker")
            placed["spec"]["selector"]["matchLabels"] = {"app": "marker"}
            marker = await world.gateway.apply(placed, "", "")

            async def knows_marker() -> bool:
                return marker.uid in told.objects

            await world.wait_until(knows_marker)
            assert unplaced.uid not in told.objects


class GatewayContract(PreconditionContract, DeletionContract, ControllerContract, AgentStateContract, WatchContract):
    """All of it."""
