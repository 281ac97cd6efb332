"""Between what callers write and what the core knows: nothing lost, nothing guessed."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.api import bodies
from federation.api.cursors import Page
from federation.api.specs import WorkloadBody, read_spec, written
from federation.domain.errors import Invalid
from federation.domain.manifest import deployment_for
from federation.domain.workload import WorkloadSpec

BODIES: dict[str, dict[str, Any]] = {
    "least": {"name": "web"},
    "shape": {"name": "web", "replicas": 3, "requests": {"cpu": "1"}, "nodeSelector": {"a": "b"}},
    "tolerations": {"name": "web", "tolerations": [{"operator": "Exists"}], "priority": -4},
    "one component of a name": {"name": "web", "components": [{"name": "a", "replicas": 1}]},
    "placement": {"name": "web", "placement": {"strategy": "static", "weights": [{"weight": 3}], "partial": "min 2"}},
    "manifest": {"manifest": deployment_for("web", "nginx", 3, {"cpu": "1"})},
    "manifest scaled": {"manifest": deployment_for("web", "nginx", 3, {"cpu": "1"}), "replicas": 9},
}


def spec_of(document: dict[str, Any]) -> WorkloadSpec:
    return read_spec(bodies.convert(document, WorkloadBody), team="shop").spec


@pytest.mark.parametrize("document", list(BODIES.values()), ids=list(BODIES))
def test_what_was_written_reads_the_same_again(document: dict[str, Any]):
    spec = spec_of(document)

    again = spec_of(msgspec.to_builtins(written(spec)))

    assert again == spec
    assert (spec.name, spec.team) == ("web", "shop")


def test_several_pod_shapes_are_refused_until_they_can_be_placed():
    body = {"name": "web", "components": [{"name": "a", "replicas": 1}, {"name": "b", "replicas": 2}]}

    with pytest.raises(Invalid, match="send one component") as refused:
        spec_of(body)

    assert refused.value.pointer == "/components"


def test_without_replicas_there_is_one():
    assert spec_of({"name": "web"}).replicas == 1


def test_a_manifest_of_the_teams_own_namespace_is_taken_and_of_another_refused():
    manifest = deployment_for("web", "nginx", 1, {})
    own = {**manifest, "metadata": {**manifest["metadata"], "namespace": "shop"}}
    other = {**manifest, "metadata": {**manifest["metadata"], "namespace": "kube-system"}}

    assert spec_of({"manifest": own}).name == "web"
    with pytest.raises(Invalid) as refused:
        spec_of({"manifest": other})
    assert refused.value.pointer == "/manifest/metadata/namespace"


def test_equal_requests_beside_a_manifest_are_no_contradiction():
    manifest = deployment_for("web", "nginx", 1, {"cpu": "1"})

    assert spec_of({"manifest": manifest, "requests": {"cpu": "1000m"}}).components[0].requests == {"cpu": "1"}


# The examples of RFC 7396, appendix A.
MERGES: list[tuple[Any, Any, Any]] = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]


@pytest.mark.parametrize(("target", "patch", "result"), MERGES)
def test_patches_merge_as_the_standard_has_it(target: Any, patch: Any, result: Any):
    assert bodies.merged(target, patch) == result


@given(st.text(max_size=253).filter(str.isprintable).filter(bool), st.lists(st.none() | st.text(), max_size=4))
def test_a_cursor_leads_back_to_where_it_was_made(last: str, scope: list[str | None]):
    page = Page.read("5", None, tuple(scope))

    cursor = page.next(last)

    assert Page.read(None, cursor, tuple(scope)).after == last
    with pytest.raises(Invalid):
        Page.read(None, cursor, (*scope, "other"))


@given(st.text(max_size=80))
def test_a_cursor_that_was_not_made_here_is_refused(cursor: str):
    with pytest.raises(Invalid):
        Page.read(None, cursor, ("scope",))
