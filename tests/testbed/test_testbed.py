"""The test bed does what the tests build on: real parts that keep their data and their address over a restart."""

import asyncio
import ssl
from itertools import count
from typing import Any

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

from tests.testbed.kafka import ADMIN, PASSWORD, KafkaBroker
from tests.testbed.member import AGENT, MemberCluster, Members
from tests.testbed.postgres import Postgres

NUMBERS = count(1)


def unique(name: str) -> str:
    return f"{name}-{next(NUMBERS)}"


async def create_topic(topic: str, **client: Any) -> None:
    admin = AIOKafkaAdminClient(**client)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name=topic, num_partitions=1, replication_factor=1)])
    finally:
        await admin.close()


async def send(topic: str, value: bytes, **client: Any) -> Any:
    async with asyncio.timeout(20), AIOKafkaProducer(**client, acks="all") as producer:
        return await producer.send_and_wait(topic, value)


async def read(topic: str, records: int, **client: Any) -> list[Any]:
    async with (
        asyncio.timeout(20),
        AIOKafkaConsumer(topic, **client, auto_offset_reset="earliest") as consumer,
    ):
        return [await consumer.getone() for _ in range(records)]


def as_user(broker: KafkaBroker, user: str, password: str = PASSWORD) -> dict[str, Any]:
    return {
        "bootstrap_servers": broker.bootstrap,
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "PLAIN",
        "sasl_plain_username": user,
        "sasl_plain_password": password,
        "ssl_context": ssl.create_default_context(cafile=str(broker.ca)),
    }


def pod(**metadata: Any) -> dict[str, Any]:
    requests = {"cpu": "100m", "memory": "64Mi"}
    containers = [{"name": "main", "image": "example/web:1", "resources": {"requests": requests}}]
    return {"metadata": metadata, "spec": {"containers": containers}}


def deployment(name: str, replicas: int) -> dict[str, Any]:
    labels = {"app": name}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": pod(labels=labels)}
    return {"metadata": {"name": name}, "spec": spec}


def job(name: str, completions: int, **annotations: str) -> dict[str, Any]:
    template = pod(annotations=annotations)
    template["spec"]["restartPolicy"] = "Never"
    return {"metadata": {"name": name}, "spec": {"completions": completions, "backoffLimit": 0, "template": template}}


def has_condition(body: Any, kind: str) -> bool:
    return any(c["type"] == kind and c["status"] == "True" for c in body["status"].get("conditions", []))


async def test_a_record_comes_back_with_the_time_of_the_broker_after_a_restart(kafka: KafkaBroker) -> None:
    topic, client = unique("round"), {"bootstrap_servers": kafka.bootstrap}
    await create_topic(topic, **client)
    await send(topic, b"before", **client)

    await asyncio.to_thread(kafka.restart)

    await send(topic, b"after", **client)
    records = await read(topic, 2, **client)
    assert [record.value for record in records] == [b"before", b"after"]
    assert {record.timestamp_type for record in records} == {1}


async def test_a_record_that_was_acknowledged_outlives_a_killed_broker(kafka: KafkaBroker) -> None:
    topic, client = unique("killed"), {"bootstrap_servers": kafka.bootstrap}
    await create_topic(topic, **client)
    await send(topic, b"kept", **client)

    kafka.kill()
    await asyncio.to_thread(kafka.start)

    assert [record.value for record in await read(topic, 1, **client)] == [b"kept"]


async def test_a_secured_broker_takes_only_what_an_acl_allows(secure_kafka: KafkaBroker) -> None:
    topic, other = unique("east"), unique("west")
    for name in (topic, other):
        await create_topic(name, **as_user(secure_kafka, ADMIN))
    await asyncio.to_thread(secure_kafka.allow, "agent-east", "Write", topic=topic)

    await send(topic, b"mine", **as_user(secure_kafka, "agent-east"))

    with pytest.raises(KafkaError, match="Authorization"):
        await send(other, b"not mine", **as_user(secure_kafka, "agent-east"))
    records = await read(topic, 1, **as_user(secure_kafka, ADMIN))
    assert [record.value for record in records] == [b"mine"]


async def test_a_secured_broker_refuses_a_wrong_password(secure_kafka: KafkaBroker) -> None:
    with pytest.raises(KafkaError):
        await send("any", b"x", **as_user(secure_kafka, "hub", password="wrong"))


async def test_a_database_keeps_its_rows_over_a_restart_and_a_kill(postgres: Postgres) -> None:
    url = postgres.create_database("kept").replace("+asyncpg", "")
    postgres.sql("CREATE TABLE t (n bigint)", "kept")
    postgres.sql("INSERT INTO t VALUES (42)", "kept")

    postgres.restart()
    postgres.kill()
    postgres.start()

    connection = await asyncpg.connect(url, timeout=10)
    assert await connection.fetchval("SELECT n FROM t") == 42
    await connection.close()


async def test_a_deployment_becomes_running_pods_on_the_nodes_of_a_member(member: MemberCluster) -> None:
    await member.clear()
    nodes = await member.add_nodes(2, cpu="4", memory="8Gi", gpus=1, labels={"zone": "a"})
    await member.create_namespace("shop")

    await member.create("/apis/apps/v1/namespaces/shop/deployments", deployment("web", 4))

    path = "/apis/apps/v1/namespaces/shop/deployments/web"
    await member.wait_for(path, lambda body: body["status"].get("readyReplicas") == 4)
    pods = (await member.get("/api/v1/namespaces/shop/pods"))["items"]
    assert {p["spec"]["nodeName"] for p in pods} <= set(nodes)
    assert {p["status"]["phase"] for p in pods} == {"Running"}


async def test_what_does_not_fit_on_the_nodes_stays_unscheduled(member: MemberCluster) -> None:
    await member.clear()
    await member.add_nodes(1, cpu="250m")
    await member.create_namespace("shop")

    await member.create("/apis/apps/v1/namespaces/shop/deployments", deployment("web", 3))

    path = "/apis/apps/v1/namespaces/shop/deployments/web"
    await member.wait_for(path, lambda body: body["status"].get("readyReplicas") == 2)
    pods = (await member.get("/api/v1/namespaces/shop/pods", fieldSelector="spec.nodeName="))["items"]
    assert len(pods) == 1


async def test_a_job_runs_for_a_while_and_completes(member: MemberCluster) -> None:
    await member.clear()
    await member.add_nodes(1)
    await member.create_namespace("batch")

    await member.create("/apis/batch/v1/namespaces/batch/jobs", job("sum", 1, **{"testbed/runs-for": "1s"}))

    path = "/apis/batch/v1/namespaces/batch/jobs/sum"
    await member.wait_for(path, lambda body: body["status"].get("ready") == 1)
    done = await member.wait_for(path, lambda body: has_condition(body, "Complete"))
    assert done["status"]["succeeded"] == 1


async def test_a_job_whose_pod_fails_is_failed(member: MemberCluster) -> None:
    await member.clear()
    await member.add_nodes(1)
    await member.create_namespace("batch")
    failing = job("bad", 1, **{"testbed/runs-for": "1ms", "testbed/fails": "true"})

    await member.create("/apis/batch/v1/namespaces/batch/jobs", failing)

    path = "/apis/batch/v1/namespaces/batch/jobs/bad"
    await member.wait_for(path, lambda body: has_condition(body, "Failed"))


async def test_an_agent_without_a_role_is_refused_until_a_manifest_gives_it_one(member: MemberCluster) -> None:
    before = await member.request("GET", "/api/v1/nodes", user=AGENT)

    await member.apply_text(READER)

    after = await member.request("GET", "/api/v1/nodes", user=AGENT)
    stranger = await member.request("GET", "/api/v1/nodes", token="of-nobody")
    assert (before.status, after.status, stranger.status) == (403, 200, 401)


async def test_an_api_server_comes_back_on_its_port_with_its_state(member: MemberCluster) -> None:
    await member.clear()
    url, names = member.url, await member.add_nodes(1)

    await asyncio.to_thread(member.stop_api)
    with pytest.raises(OSError, match="Cannot connect"):
        await member.get("/api/v1/nodes")
    await asyncio.to_thread(member.start_api)

    assert [node["metadata"]["name"] for node in (await member.get("/api/v1/nodes"))["items"]] == names
    assert member.url == url


async def test_members_are_clusters_of_their_own(members: Members) -> None:
    namespace = unique("only-in-west")

    await members["west"].create_namespace(namespace)

    path = f"/api/v1/namespaces/{namespace}"
    found = {name: (await members[name].request("GET", path)).status for name in ("east", "west", "north")}
    assert found == {"east": 404, "west": 200, "north": 404}


async def test_a_node_can_fail_and_recover(member: MemberCluster) -> None:
    await member.clear()
    [name] = await member.add_nodes(1)

    await member.set_node_ready(name, False)
    failed = await member.wait_for(f"/api/v1/nodes/{name}", lambda body: bool(body["spec"].get("taints")))
    await member.set_node_ready(name, True)

    assert not has_condition(failed, "Ready")
    await member.wait_for(f"/api/v1/nodes/{name}", lambda body: has_condition(body, "Ready"))


READER = """
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: testbed-reader}
rules: [{apiGroups: [""], resources: [nodes], verbs: [get, list]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: testbed-reader}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: testbed-reader}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: agent}]
"""
