"""The manifests in deploy/: that they name what the program has, ask for no more than they need, and are taken by a server."""

import json
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from prometheus_client import REGISTRY
from typer.main import get_command

import federation.api.app
import federation.services.metrics  # noqa: F401  its metrics are those that alerts may name
from federation.cli import app
from federation.config import PREFIX, Settings
from tests.testbed.member import MemberCluster

ROOT: Final = Path(__file__).parents[2]
DEPLOY: Final = ROOT / "deploy"
PARTS: Final = ("hub", "agent")
SETTINGS: Final = {PREFIX + each.name.upper() for each in fields(Settings)} | {PREFIX + "CONFIG"}
ADDRESSES: Final = {PREFIX + "LISTEN", PREFIX + "PROBES_LISTEN"}
Object = dict[str, Any]


def objects(part: str) -> list[Object]:
    """All objects of a part, as they stand in its files."""
    files = sorted((DEPLOY / part).glob("*.yaml"))
    return [each for file in files for each in yaml.safe_load_all(file.read_text(encoding="utf-8"))]


def kustomization(part: str) -> Object:
    return next(each for each in objects(part) if each["kind"] == "Kustomization")


def pods() -> Iterator[tuple[str, Object]]:
    """(name, pod template) of everything that runs."""
    for part in PARTS:
        for each in objects(part):
            if each["kind"] in ("Deployment", "Job"):
                yield each["metadata"]["name"], each["spec"]["template"]


PODS: Final = dict(pods())


def container(name: str) -> Object:
    (only,) = PODS[name]["spec"]["containers"]
    return only


def settings_of(part: str) -> dict[str, str]:
    """The settings that a part's ConfigMap holds."""
    (config,) = kustomization(part)["configMapGenerator"]
    return dict(literal.split("=", 1) for literal in config["literals"])


def test_there_are_the_roles_that_run_apart():
    assert {container(name)["args"][0] for name in PODS} == {"migrate", "serve", "work", "agent"}


@pytest.mark.parametrize("name", PODS)
def test_a_pod_runs_a_command_that_the_program_has(name: str):
    commands = get_command(app).commands  # type: ignore[attr-defined]

    assert container(name)["args"][0] in commands


@pytest.mark.parametrize("name", PODS)
def test_a_pod_has_no_more_rights_than_it_needs(name: str):
    spec, security = PODS[name]["spec"], container(name)["securityContext"]

    assert spec["securityContext"]["runAsNonRoot"]
    assert security["readOnlyRootFilesystem"]
    assert security["allowPrivilegeEscalation"] is False
    assert security["capabilities"] == {"drop": ["ALL"]}
    # Only the agent talks to an API server.
    assert spec.get("automountServiceAccountToken", True) is (name == "federation-agent")


@pytest.mark.parametrize("name", PODS)
def test_a_pod_says_what_it_needs_and_bounds_its_memory(name: str):
    resources = container(name)["resources"]

    assert {"cpu", "memory"} <= resources["requests"].keys()
    assert "memory" in resources["limits"]


@pytest.mark.parametrize("name", [name for name in PODS if "migrate" not in name])
def test_probes_ask_a_port_that_the_program_is_told_to_serve(name: str):
    found = container(name)
    ports = {port["name"]: port["containerPort"] for port in found["ports"]}
    told = {entry["name"]: entry["value"] for entry in found["env"]}

    probed = {(found[probe]["httpGet"]["path"], found[probe]["httpGet"]["port"]) for probe in PROBES}
    (address,) = [told[setting] for setting in ADDRESSES if setting in told]

    assert {path for path, _ in probed} == {"/livez", "/readyz"}
    assert {str(ports[port]) for _, port in probed} == {address.rpartition(":")[2]}
    assert PODS[name]["metadata"]["annotations"]["prometheus.io/port"] == address.rpartition(":")[2]


PROBES: Final = ("startupProbe", "livenessProbe", "readinessProbe")


def test_every_setting_is_one_that_the_program_knows():
    written = "\n".join(file.read_text(encoding="utf-8") for file in DEPLOY.rglob("*.yaml"))

    assert set(re.findall(PREFIX + "[A-Z_]+", written)) - SETTINGS == set()


@pytest.mark.parametrize("part", PARTS)
def test_the_settings_of_a_part_are_taken_together(part: str):
    from federation.config import load

    loaded = load(settings_of(part))

    assert loaded.kafka_bootstrap


def test_selectors_choose_the_pods_that_are_made():
    made = [template["metadata"]["labels"] for template in PODS.values()]
    for part in PARTS:
        for each in objects(part):
            selector = each.get("spec", {}).get("selector", {}) if each["kind"] != "Job" else {}
            labels = selector.get("matchLabels", selector)

            assert not labels or any(labels.items() <= pod.items() for pod in made), each["metadata"]["name"]


@pytest.mark.parametrize("part", PARTS)
def test_every_file_is_part_of_what_is_applied(part: str):
    files = {file.name for file in (DEPLOY / part).glob("*.yaml")}

    assert set(kustomization(part)["resources"]) == files - {"kustomization.yaml"}


def test_the_version_is_that_of_the_program():
    import tomllib

    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]

    assert {container(name)["image"] for name in PODS} == {f"federation:{version}"}
    assert {image["newTag"] for part in PARTS for image in kustomization(part)["images"]} == {version}
    assert f"federation-migrate-{version.replace('.', '-')}" in PODS


def test_the_agent_may_do_nothing_by_wildcard_and_reads_no_secrets():
    rules = [rule for each in objects("agent") for rule in each.get("rules", ())]
    words = {word for rule in rules for values in rule.values() for word in values}

    assert rules
    assert not words & {"*", "secrets", "pods/exec", "pods/attach", "escalate", "bind", "impersonate"}


def test_alerts_rest_on_metrics_that_there_are():
    rules = yaml.safe_load((DEPLOY / "alerts.yaml").read_text(encoding="utf-8"))["groups"][0]["rules"]
    known = set(REGISTRY._names_to_collectors)

    for rule in rules:
        named = set(re.findall(r"federation_[a-z_]+", rule["expr"]))
        assert named, rule["alert"]
        assert named - known == set(), rule["alert"]
        assert rule["annotations"]["summary"]


@pytest.mark.parametrize("part", PARTS)
async def test_an_api_server_takes_what_is_applied(part: str, member: MemberCluster):
    namespace = kustomization(part)["namespace"]
    await member.create_namespace(namespace)

    answer = json.loads(
        await member.kubectl("apply", "--dry-run=server", "--validate=strict", "-k", str(DEPLOY / part), "-o", "json")
    )

    taken = {(each["kind"], each["metadata"]["name"]) for each in answer["items"]}
    wanted = {(each["kind"], each["metadata"]["name"]) for each in objects(part) if each["kind"] != "Kustomization"}
    assert wanted <= taken


@pytest.mark.parametrize("name", PODS)
async def test_a_pod_is_let_into_a_namespace_that_is_restricted(name: str, member: MemberCluster):
    await member.create_namespace("restricted")
    await member.patch(
        "/api/v1/namespaces/restricted", {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    )
    spec = {**PODS[name]["spec"], "serviceAccountName": "default"}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
    await member.wait_for("/api/v1/namespaces/restricted", lambda body: body["status"]["phase"] == "Active")

    answer = await member.request("POST", "/api/v1/namespaces/restricted/pods?dryRun=All", pod)

    assert answer.status == 201, answer.body
