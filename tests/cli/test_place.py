"""place and plan: what is sent for the flags given, what is said of the answer, and how long they stay."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.builders import WEB, make_explanation, make_placement, make_verdict, make_workload
from tests.cli.server import Said, Server, page, problem

ONE = f"GET /v1/workloads/{WEB}"
POST = "POST /v1/workloads"
RULES = {
    "strategy": "dynamic",
    "weights": [],
    "clusters": {"names": [], "labels": {}, "exclude": []},
    "spread": [],
    "partial": "never",
}
MANIFEST = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop, creationTimestamp: null, annotations: {made: 2026-01-01}}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: nginx, resources: {requests: {cpu: 500m}}}]}
---
"""


def decided(server: Server, workload: dict[str, Any], *later: dict[str, Any]) -> None:
    """The server answers a placement with *workload*, and reads of it with *later* (or the same)."""
    server.answer(POST, Said(workload, 201))
    server.answer(ONE, *(later or (workload,)))


def test_flags_become_a_deployment_and_its_placement(server: Server):
    decided(server, make_workload(make_placement("east", 2), make_placement("west", 1)))

    result = server.run(
        "place", "web", "--replicas", "3", "--cpu", "500m", "--memory", "1Gi", "--gpu", "1", "--team", "shop",
        "--strategy", "static", "--weight", "east=2", "--weight", "west=1", "--spread", "region:2:3",
        "--spread", "cluster", "--cluster", "east", "--cluster", "west", "--priority", "7", "--partial", "2",
        "--node-selector", "disk=ssd", "--toleration", "gpu:NoSchedule", "--toleration", "spot=yes", "--toleration", "*",
    )  # fmt: skip

    assert (result.stdout, result.stderr, result.exit_code) == ("workload/web placed: east 2, west 1\n", "", 0)
    [asked] = server.sent("POST")
    manifest = asked.body.pop("manifest")
    tolerations = [
        {"key": "gpu", "operator": "Exists", "effect": "NoSchedule"},
        {"key": "spot", "operator": "Equal", "value": "yes"},
        {"operator": "Exists"},
    ]
    requests = {"cpu": "500m", "memory": "1Gi", "nvidia.com/gpu": "1"}
    assert asked.body == {
        "name": "web",
        "team": "shop",
        "priority": 7,
        "replicas": 3,
        "requests": requests,
        "nodeSelector": {"disk": "ssd"},
        "tolerations": tolerations,
        "placement": {
            "strategy": "static",
            "weights": [
                {"clusters": {"names": ["east"]}, "weight": 2},
                {"clusters": {"names": ["west"]}, "weight": 1},
            ],
            "clusters": {"names": ["east", "west"], "labels": {}, "exclude": []},
            "spread": [{"by": "region", "minGroups": 2, "maxGroups": 3}, {"by": "cluster"}],
            "partial": "min 2",
        },
    }
    assert manifest["spec"]["template"]["spec"] == {
        "containers": [
            {
                "name": "web",
                "image": "pause",
                "resources": {"requests": requests, "limits": {"nvidia.com/gpu": "1"}},
            }
        ],
        "nodeSelector": {"disk": "ssd"},
        "tolerations": tolerations,
    }
    assert asked.headers["Prefer"] == "wait=10"
    assert len(asked.headers["Idempotency-Key"]) == 32


@pytest.mark.parametrize("from_stdin", [False, True])
def test_a_file_is_sent_as_it_stands(server: Server, tmp_path: Path, from_stdin: bool):
    decided(server, make_workload(make_placement("east", 3)))
    (tmp_path / "web.yaml").write_text(MANIFEST)

    result = server.run("place", "-f", "-" if from_stdin else str(tmp_path / "web.yaml"), text=MANIFEST)

    assert result.exit_code == 0
    [asked] = server.sent("POST")
    pod = {"containers": [{"name": "web", "image": "nginx", "resources": {"requests": {"cpu": "500m"}}}]}
    assert asked.body == {
        "name": "web",
        "priority": 0,
        "placement": RULES,
        "manifest": {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "web", "namespace": "shop", "annotations": {"made": "2026-01-01"}},
            "spec": {
                "replicas": 3,
                "selector": {"matchLabels": {"app": "web"}},
                "template": {"metadata": {"labels": {"app": "web"}}, "spec": pod},
            },
        },
    }


def test_replicas_beside_a_file_count_instead_of_its_own(server: Server):
    decided(server, make_workload(make_placement("east", 9)))

    server.run("place", "web", "-f", "-", "--replicas", "9", text=MANIFEST)

    [asked] = server.sent("POST")
    assert asked.body["manifest"]["spec"]["replicas"] == 9


def test_a_job_is_scaled_by_its_parallelism(server: Server):
    decided(server, make_workload(make_placement("east", 2)))
    pod = {"restartPolicy": "Never", "containers": [{"name": "c"}]}
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "web"}, "spec": {"template": {"spec": pod}}}

    server.run("place", "-f", "-", "--replicas", "2", text=json.dumps(job))

    [asked] = server.sent("POST")
    assert asked.body["manifest"]["spec"]["parallelism"] == 2


def test_notes_of_the_server_are_passed_on(server: Server):
    decided(server, make_workload(make_placement("east", 3), notes=["host ports are not counted in the estimate"]))

    result = server.run("place", "web")

    assert result.stderr == "note: host ports are not counted in the estimate\n"


def test_without_a_manifest_the_labels_are_told(server: Server):
    labels = {"federation.io/placement": "01JF"}
    placement = make_placement("east", 3, podLabels=labels, bound=0, ready=0, held=3)
    decided(server, make_workload(placement, kind="", leaseUntil="2026-11-24T14:00:00Z"))

    result = server.run("place", "web", "--replicas", "3", "--no-manifest")

    assert result.stdout == (
        "workload/web placed: east 3\n"
        "Your pods must carry these labels:\n"
        "  east: 3 replicas with federation.io/placement=01JF\n"
        "The room is yours until 2026-11-24T14:00:00Z; keep it with `federation renew web`.\n"
    )
    assert server.sent("POST")[0].body["manifest"] is None


def test_what_finds_no_room_waits_and_says_why(server: Server):
    decided(server, make_workload(phase="waiting", replicas=40, reasons=["east: insufficient cpu", "west: cordoned"]))

    result = server.run("place", "web", "--replicas", "40")

    assert result.stdout == (
        "workload/web waiting\n"
        "- east: insufficient cpu\n"
        "- west: cordoned\n"
        "It stays in the queue until there is room; end it with `federation delete web`.\n"
    )
    assert result.exit_code == 1


def test_what_is_placed_in_part_says_how_much(server: Server):
    decided(server, make_workload(make_placement("east", 25), replicas=40, phase="degraded", reasons=["15 do not fit"]))

    result = server.run("place", "web", "--replicas", "40", "--partial", "allow")

    assert (result.stdout, result.exit_code) == ("workload/web degraded: east 25 (25 of 40)\n- 15 do not fit\n", 0)


def test_a_decision_that_takes_its_time_is_waited_for(server: Server):
    pending = make_workload(phase="pending", decided=0, replicas=2)
    server.answer(POST, Said(pending, 202)).answer(ONE, make_workload(make_placement("east", 2)))

    result = server.run("place", "web")

    assert (result.stdout, result.stderr) == ("workload/web placed: east 2\n", "web waits for a decision\n")


def test_no_wait_leaves_before_the_decision(server: Server):
    pending = make_workload(phase="pending", decided=0, replicas=2)
    server.answer(POST, Said(pending, 202)).answer(ONE, pending)

    result = server.run("place", "web", "--no-wait")

    assert (result.stdout, result.exit_code) == ("workload/web accepted, not yet decided\n", 0)
    assert "Prefer" not in server.sent("POST")[0].headers


def test_wait_stays_until_the_pods_run_and_tells_each_step(server: Server):
    starting = make_workload(make_placement("east", 2, ready=0))
    half = make_workload(make_placement("east", 2, ready=1))
    running = make_workload(make_placement("east", 2))
    decided(server, starting, half, half, running)

    result = server.run("place", "web", "--wait")

    assert result.stdout == "workload/web placed: east 2\n"
    assert result.stderr == "web is placed: 0 of 2 ready (east:2)\nweb is placed: 1 of 2 ready (east:2)\n"
    assert result.exit_code == 0


def test_wait_gives_up_in_time_and_leaves_the_workload(server: Server):
    decided(server, make_workload(make_placement("east", 2, ready=0)))

    result = server.run("place", "web", "--wait", "--timeout", "1s")

    assert result.stderr.splitlines()[-1] == (
        "error: web is placed: 0 of 2 ready (east:2); not done in 1s. It stays as asked."
    )
    assert result.exit_code == 1


def test_a_workload_that_fails_ends_the_wait(server: Server):
    decided(server, make_workload(make_placement("east", 2, ready=0), phase="failed", reasons=["backoff limit"]))

    result = server.run("place", "web", "--wait")

    assert (result.stdout, result.exit_code) == ("workload/web failed: east 2\n- backoff limit\n", 1)


def test_the_answer_can_be_read_by_programs(server: Server):
    workload = make_workload(make_placement("east", 2))
    decided(server, workload)

    assert json.loads(server.run("place", "web", "-o", "json").stdout) == workload
    assert server.run("place", "web", "-o", "name").stdout == "workload/web\n"


def test_a_refusal_names_the_field(server: Server):
    server.answer(POST, problem(400, "invalid", "Expected `int` >= 1", "/placement/spread/0/minGroups"))

    result = server.run("place", "web", "--spread", "region:0")

    assert result.stderr == "error: Bad Request: Expected `int` >= 1\n  at /placement/spread/0/minGroups\n"
    assert (result.stdout, result.exit_code) == ("", 1)


def test_a_name_that_is_taken_says_how_to_go_on(server: Server):
    server.answer(POST, problem(409, "conflict", "team 'shop' has a workload named 'web' already"))

    result = server.run("place", "web")

    assert result.stderr == (
        "error: Conflict: team 'shop' has a workload named 'web' already\n"
        "Change it with `federation scale`, or put yours in its place with --replace.\n"
    )


def test_replace_puts_a_new_spec_in_the_place_of_the_old(server: Server):
    server.answer("GET /v1/workloads?name=web&limit=500", page(make_workload()))
    server.answer(f"PUT /v1/workloads/{WEB}", make_workload(make_placement("east", 4)))
    server.answer(ONE, make_workload(make_placement("east", 4)))

    result = server.run("place", "web", "--replicas", "4", "--replace")

    assert result.stdout == "workload/web placed: east 4\n"
    [asked] = server.sent("PUT")
    assert (asked.body["team"], asked.body["replicas"]) == ("shop", 4)


def test_replace_makes_what_is_not_there(server: Server):
    server.answer("GET /v1/workloads?name=web&limit=500", page())
    decided(server, make_workload(make_placement("east", 4)))

    result = server.run("place", "web", "--replicas", "4", "--replace")

    assert (result.exit_code, len(server.sent("POST"))) == (0, 1)


PLAN = {
    "outcome": "partial",
    "placements": [{"cluster": "east", "replicas": 25}],
    "reasons": ["15 do not fit"],
    "explanation": {"clusters": [make_verdict("east", "chosen", wanted=40, fits=25)], "summary": "25 of 40 placed"},
    "notes": ["host ports are not counted in the estimate"],
}


@pytest.mark.parametrize("words", [("plan", "web"), ("place", "web", "--dry-run")])
def test_a_plan_is_told_and_nothing_is_written(server: Server, words: tuple[str, ...]):
    server.answer("POST /v1/plans", PLAN)

    result = server.run(*words, "--replicas", "40")

    assert result.stdout == (
        "workload/web would be placed in part: east 25\n"
        "- 15 do not fit\n"
        "note: host ports are not counted in the estimate\n"
        "25 of 40 placed\n"
        "\n"
        "CLUSTER   VERDICT   WANTED   FITS   PREVIOUS   AGE   REASON\n"
        "east      chosen    40       25     0          2s    -\n"
    )
    assert result.exit_code == 0
    assert [asked.target for asked in server.asked] == ["/v1/plans"]


def test_a_plan_that_would_wait_fails(server: Server):
    explanation = make_explanation(summary="nothing fits")
    server.answer("POST /v1/plans", {**PLAN, "outcome": "waiting", "placements": [], "explanation": explanation})

    result = server.run("plan", "web", "-o", "json")

    assert json.loads(result.stdout)["outcome"] == "waiting"
    assert result.exit_code == 1


WRONG = {
    "nothing to place": (("place",), "give a NAME, or a manifest with -f"),
    "a file that is not there": (("place", "-f", "/nowhere/x.yaml"), "cannot read /nowhere/x.yaml"),
    "a file and flags": (("place", "-f", "-", "--cpu", "1"), "leave out --cpu"),
    "another name than the file's": (("place", "api", "-f", "-"), "named web, not api"),
    "a spread of too many parts": (("place", "web", "--spread", "region:1:2:3"), "not BY[:MIN[:MAX]]"),
    "a spread in words": (("place", "web", "--spread", "region:few"), "not a number: 'few'"),
    "a selector of one part": (("place", "web", "--node-selector", "disk"), "not KEY=VALUE: 'disk'"),
    "a toleration of nothing": (("place", "web", "--toleration", "=x"), "KEY[=VALUE][:EFFECT]: '=x'"),
    "an image that nothing runs": (("place", "web", "--image", "x", "--no-manifest"), "exclude each other"),
    "an endless time": (("place", "web", "--timeout", "9d"), "not a time of at most 24h: '9d'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_usage_says_so_and_sends_nothing(server: Server, case: str):
    words, said = WRONG[case]

    result = server.run(*words, text=MANIFEST, env={"COLUMNS": "200"})

    assert said in " ".join(result.stderr.split())
    assert (result.stdout, result.exit_code, server.asked) == ("", 2, [])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "error: - is not YAML: "),
        ("", "error: -: the file holds no manifest\n"),
        ("kind: Service\napiVersion: v1\n", "error: -: v1 Service is not taken; "),
        (MANIFEST.replace("500m", "much"), "error: cpu: not a quantity: 'much'\n  at /spec/template/spec/containers/0"),
    ],
)
def test_a_manifest_that_cannot_be_placed_is_refused_here(server: Server, text: str, said: str):
    result = server.run("place", "-f", "-", text=text)

    assert result.stderr.startswith(said)
    assert (result.stdout, result.exit_code, server.asked) == ("", 1, [])


def test_a_bad_amount_of_a_flag_is_refused_here(server: Server):
    result = server.run("place", "web", "--cpu", "much")

    assert result.stderr.startswith("error: cpu: not a quantity: 'much'\n")
    assert (result.exit_code, server.asked) == (1, [])
