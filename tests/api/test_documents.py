"""The published documents: complete, valid, and the same as what is served."""

import re
from typing import Any

import jsonschema_rs
import msgspec
import pytest

from federation.api import asyncapi, openapi
from federation.api.routes import ROUTES
from federation.domain.events import ACTION_TYPES, EVENT_TYPES
from tests.api.serving import WEB, decide, make_cluster, put_clusters, serving


def published() -> dict[str, Any]:
    """The document as a reader gets it: through JSON."""
    document: dict[str, Any] = msgspec.json.decode(openapi.encoded())
    return document


def references(node: Any) -> set[str]:
    if isinstance(node, dict):
        own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
        return own.union(*(references(value) for value in node.values()))
    return set().union(*(references(value) for value in node)) if isinstance(node, list) else set()


def resolve(document: Any, reference: str) -> Any:
    for part in reference.removeprefix("#/").split("/"):
        document = document[part.replace("~1", "/").replace("~0", "~")]
    return document


@pytest.mark.parametrize(
    "document", [published(), msgspec.to_builtins(asyncapi.document())], ids=["openapi", "asyncapi"]
)
def test_every_reference_leads_somewhere(document: dict[str, Any]):
    found = references(document)

    assert found
    for reference in found:
        assert resolve(document, reference) is not None


def test_every_schema_is_a_schema():
    for document in (published(), asyncapi.document()):
        for name, schema in document["components"]["schemas"].items():
            jsonschema_rs.meta.validate({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema})
            assert "$ref" not in name


def test_every_route_is_described_with_its_parameters_and_refusals():
    paths = published()["paths"]

    for route in ROUTES:
        operation = paths[route.path][route.method.lower()]
        named = {parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "path"}
        assert named == set(re.findall(r"{(\w+)}", route.path))
        assert "application/problem+json" in operation["responses"]["default"]["content"]
        assert bool(operation["security"]) == bool(route.roles)
    names = [route.name for route in ROUTES]
    assert len(names) == len(set(names))


def test_integers_of_bodies_are_bounded():
    schemas = published()["components"]["schemas"]

    for name in ("WorkloadBody", "Component", "SpreadConstraint", "Weight", "Toleration"):
        for field, schema in schemas[name]["properties"].items():
            for option in schema.get("anyOf", [schema]):
                if option.get("type") == "integer":
                    assert {"minimum", "maximum"} <= option.keys(), f"{name}.{field}"


def test_every_event_and_action_has_its_message():
    document = asyncapi.document()

    messages = {message["name"] for message in document["components"]["messages"].values()}

    assert messages == {*EVENT_TYPES, *ACTION_TYPES, "parked"}
    assert document["channels"]["actions"]["address"] == "federation.actions.{cluster}"


async def test_what_is_served_is_what_is_published():
    document = published()
    async with serving() as served:
        await put_clusters(served.store, make_cluster("east", labels={"a": "b"}))
        made = await served.create()
        decision = await decide(served, made["id"], {"east": 2})
        served.planner.replayed = {"east": 2}
        answers = {
            ("post", "/v1/plans", "200"): await served.call("POST", "/v1/plans", WEB),
            ("get", "/v1/workloads", "200"): await served.call("GET", "/v1/workloads"),
            ("get", "/v1/workloads/{id}", "200"): await served.call("GET", f"/v1/workloads/{made['id']}"),
            ("get", "/v1/workloads/{id}/explanation", "200"): await served.call(
                "GET", f"/v1/workloads/{made['id']}/explanation"
            ),
            ("get", "/v1/workloads/{id}/decisions", "200"): await served.call(
                "GET", f"/v1/workloads/{made['id']}/decisions"
            ),
            ("get", "/v1/decisions/{id}", "200"): await served.call("GET", f"/v1/decisions/{decision.id}"),
            ("post", "/v1/decisions/{id}/replay", "200"): await served.call(
                "POST", f"/v1/decisions/{decision.id}/replay"
            ),
            ("get", "/v1/clusters", "200"): await served.call("GET", "/v1/clusters"),
            ("get", "/v1/clusters/{name}", "200"): await served.call("GET", "/v1/clusters/east"),
            ("get", "/v1/clusters/{name}/nodes", "200"): await served.call("GET", "/v1/clusters/east/nodes"),
            ("get", "/v1/pool", "200"): await served.call("GET", "/v1/pool"),
            ("get", "/readyz", "200"): await served.call("GET", "/readyz"),
            ("get", "/v1/workloads/{id}", "default"): await served.call("GET", "/v1/workloads/absent"),
        }
        for (method, path, status), reply in answers.items():
            content = document["paths"][path][method]["responses"][status]["content"]
            schema = content[reply.headers["Content-Type"].partition(";")[0]]["schema"]

            whole = {**schema, "components": document["components"]}
            jsonschema_rs.validator_for(whole).validate(reply.json)
        assert (await served.call("GET", "/openapi.json")).json == document
