"""get, describe, explain, top, replay: what people see of what the server says."""

import json

import pytest
import yaml

from tests.cli.builders import (
    CHOICE,
    WEB,
    ago,
    make_cluster,
    make_explanation,
    make_figures,
    make_node,
    make_placement,
    make_verdict,
    make_workload,
)
from tests.cli.server import Server, page, problem

LIST = "GET /v1/workloads?limit=500"


def test_workloads_stand_in_columns(server: Server):
    first = make_workload(make_placement("east", 25, held=5, ready=20), make_placement("west", 15))
    second = make_workload(name="batch", team="data", phase="waiting", replicas=8, createdAt=ago(minutes=30))
    server.answer(LIST, page(first, second))

    result = server.run("get", "workloads")

    assert result.stdout == (
        "NAME    TEAM   PHASE     REPLICAS   READY   HELD   CLUSTERS          AGE\n"
        "web     shop   placed    40         35      5      east:25,west:15   20h\n"
        "batch   data   waiting   8          0       0      -                 30m\n"
    )
    assert result.exit_code == 0


def test_wide_adds_what_is_rarely_needed(server: Server):
    server.answer(LIST, page(make_workload(make_placement("east", 2), reasons=["one", "two"])))

    result = server.run("get", "wl", "-o", "wide")

    assert result.stdout == (
        "NAME   TEAM   PHASE    REPLICAS   READY   HELD   CLUSTERS   AGE   KIND         PRIORITY   ID"
        "                           REASONS\n"
        f"web    shop   placed   2          2       0      east:2     20h   Deployment   0          {WEB}   one; two\n"
    )


def test_long_lists_are_read_page_by_page(server: Server):
    server.answer(LIST, page(make_workload(name="a"), after="more"))
    server.answer("GET /v1/workloads?limit=500&after=more", page(make_workload(name="b")))

    result = server.run("get", "workloads", "-o", "name")

    assert result.stdout == "workload/a\nworkload/b\n"


def test_team_and_phase_narrow_the_list(server: Server):
    server.answer("GET /v1/workloads?team=shop&phase=waiting&limit=500", page())

    result = server.run("get", "workloads", "--team", "shop", "--phase", "waiting")

    assert (result.stdout, result.stderr, result.exit_code) == ("", "nothing found\n", 0)


@pytest.mark.parametrize("words", [("workload", "web"), ("workloads/web",), ("wl", "web")])
def test_one_workload_is_found_by_its_name(server: Server, words: tuple[str, ...]):
    workload = make_workload(make_placement("east", 2))
    server.answer("GET /v1/workloads?name=web&limit=500", page(workload))

    result = server.run("get", *words, "-o", "json")

    assert json.loads(result.stdout) == workload


def test_one_workload_is_found_by_its_id(server: Server):
    workload = make_workload(make_placement("east", 2))
    server.answer(f"GET /v1/workloads/{WEB}", workload)

    result = server.run("get", "workload", WEB, "-o", "yaml")

    assert yaml.safe_load(result.stdout) == workload


def test_a_name_that_several_teams_use_needs_a_team(server: Server):
    server.answer("GET /v1/workloads?name=web&limit=500", page(make_workload(), make_workload(team="data")))

    result = server.run("get", "workload", "web")

    assert result.stderr == "error: several teams have a workload web: data, shop. Name one with --team.\n"
    assert (result.stdout, result.exit_code) == ("", 1)


def test_a_name_that_nobody_uses_is_told(server: Server):
    server.answer("GET /v1/workloads?name=web&team=shop&limit=500", page())

    result = server.run("get", "workload", "web", env={"FEDERATION_TEAM": "shop"})

    assert (result.stderr, result.exit_code) == ("error: no workload web in team shop\n", 1)


def test_clusters_stand_in_columns(server: Server):
    gpus = {"nvidia.com/gpu": make_figures("8", "2", "0", "6"), **make_cluster("x")["resources"]}
    west = make_cluster("west", cordoned=True, silent=True, ageSeconds=95.0, labels={}, resources=gpus)
    server.answer("GET /v1/clusters", page(make_cluster("east"), west))

    result = server.run("get", "clusters")

    assert result.stdout == (
        "NAME   STATUS                  REGION   NODES   FREE-CPU   FREE-MEMORY   FREE-GPU   PLACEMENTS   HELD   SEEN\n"
        "east   Ready                   eu-1     4       40         192Gi         -          3            5      2s\n"
        "west   Ready,Cordoned,Silent   -        4       40         192Gi         6          3            5      95s\n"
    )


def test_nodes_of_all_clusters_stand_in_one_table(server: Server):
    server.answer("GET /v1/clusters", page(make_cluster("east"), make_cluster("west")))
    server.answer("GET /v1/clusters/east/nodes?limit=500", page(make_node("n-1")))
    server.answer("GET /v1/clusters/west/nodes?limit=500", page(make_node("n-2", usable=False)))

    result = server.run("get", "nodes")

    assert result.stdout == (
        "CLUSTER   NAME   STATUS      CPU-FREE   MEMORY-FREE   GPU-FREE   PODS-FREE\n"
        "east      n-1    Ready       3.5/16     16Gi/64Gi     -          53/110\n"
        "west      n-2    NotUsable   3.5/16     16Gi/64Gi     -          53/110\n"
    )


def test_the_decisions_of_a_workload_are_listed(server: Server):
    decision = {"id": CHOICE, "outcome": "placed", "total": 40, "placed": {"east": 25, "west": 15}}
    rest = {"previous": {}, "at": ago(hours=20), "summary": "", "reasons": []}
    server.answer("GET /v1/workloads?name=web&limit=500", page(make_workload()))
    server.answer(f"GET /v1/workloads/{WEB}/decisions?limit=500", page({**decision, **rest}))

    result = server.run("get", "decisions", "web")

    assert result.stdout == (
        "ID                           OUTCOME   TOTAL   PLACED            PREVIOUS   AGE\n"
        f"{CHOICE}   placed    40      east:25,west:15   -          20h\n"
    )


def test_the_pool_says_what_it_does_not_count(server: Server):
    brief = {"phase": "ready", "usable": True, "cordoned": False, "silent": False, "stale": None, "nodes": 4}
    clusters = [{**brief, "name": "east"}, {**brief, "name": "west", "usable": False, "stale": "a gap"}]
    resources = {
        "cpu": make_figures("2000", "500", "63770m", "1436230m"),
        "memory": make_figures("8Pi", "0", "0", "8Pi"),
    }
    server.answer("GET /v1/pool", {"at": ago(), "usable": 1, "nodes": 4, "resources": resources, "clusters": clusters})

    result = server.run("get", "pool")

    assert result.stdout == (
        "1 of 2 clusters usable, 4 nodes\n"
        "not counted: west (Ready,Stale)\n"
        "\n"
        "RESOURCE   KNOWN   USED   HELD    FREE\n"
        "cpu        2000    500    63.77   1436\n"
        "memory     8Pi     0      0       8Pi\n"
    )


def test_parked_events_are_listed(server: Server):
    parked = {"source": "federation.events/0", "offset": 7, "at": ago(hours=20), "reason": "not JSON", "key": "east"}
    server.answer("GET /v1/events/parked?limit=500", page({**parked, "headers": {}, "value": "{"}))

    result = server.run("get", "parked")

    assert result.stdout == (
        "SOURCE                OFFSET   KEY    REASON     AGE\nfederation.events/0   7        east   not JSON   20h\n"
    )


def test_what_a_member_says_cannot_move_the_cursor(server: Server):
    server.answer("GET /v1/clusters", page(make_cluster("east", labels={"topology.kubernetes.io/region": "\x1b[2J"})))

    result = server.run("get", "clusters")

    assert "\x1b" not in result.stdout
    assert "\\x1b[2J" in result.stdout


def test_a_workload_is_described_with_its_placements_and_why(server: Server):
    east = make_placement("east", 25, held=5, bound=20, ready=18)
    workload = make_workload(east, reasons=["east: 1 unschedulable"], createdAt="2020-01-02T03:04:05Z", changedAt=None)
    explanation = make_explanation(
        make_verdict("east", "chosen", reason="most room"), summary="25 of 25 placed in 1 cluster"
    )
    server.answer("GET /v1/workloads?name=web&limit=500", page(workload))
    server.answer(f"GET /v1/workloads/{WEB}/explanation", explanation)

    result = server.run("describe", "web")

    lines = result.stdout.splitlines()
    assert lines[8].startswith("Created:    2020-01-02T03:04:05Z (")
    assert lines[:8] + lines[9:] == [
        "Name:       web",
        "Team:       shop",
        f"Id:         {WEB}",
        "Kind:       Deployment",
        "Phase:      placed",
        "Replicas:   25 wanted, 20 bound, 18 ready, 5 held",
        "Priority:   0",
        "Version:    1 (decided: 1)",
        "Changed:    -",
        "Placements:",
        "  CLUSTER   PHASE     REPLICAS   BOUND   READY   HELD   ID          REASON",
        "  east      running   25         20      18      5      01JF-east   most room",
        "Reasons:",
        "  - east: 1 unschedulable",
        "Decision:",
        "  25 of 25 placed in 1 cluster",
    ]


def test_a_workload_that_is_not_decided_yet_can_be_described(server: Server):
    workload = make_workload(
        phase="pending", decision="", decided=0, replicas=3, kind="", leaseUntil="2026-11-24T14:00:00Z"
    )
    server.answer(f"GET /v1/workloads/{WEB}", workload)

    result = server.run("describe", WEB)

    assert result.exit_code == 0
    assert "Kind:          none (the caller deploys the pods)\n" in result.stdout
    assert "Lease until:   2026-11-24T14:00:00Z\n" in result.stdout


def test_what_a_restored_hub_did_not_decide_is_shown_to_the_operator(server: Server):
    orphan = {"placement": "01JF", "workload": "web", "team": "shop", "namespace": "shop", "name": "web", "replicas": 3}
    server.answer("GET /v1/clusters/east", make_cluster("east", orphans=[orphan], moreOrphans=7))

    result = server.run("describe", "cluster", "east")

    assert (
        "Orphans:\n"
        "  WORKLOAD   TEAM   NAMESPACE   NAME   REPLICAS   PLACEMENT\n"
        "  web        shop   shop        web    3          01JF\n"
        "  and 7 more\n"
    ) in result.stdout


def test_a_cluster_is_described_with_its_resources(server: Server):
    server.answer(
        "GET /v1/clusters/east", make_cluster("east", stale="a gap", debt={"cpu": "2"}, taints=make_node("n")["taints"])
    )

    result = server.run("describe", "cluster", "east")

    assert result.stdout == (
        "Name:           east\n"
        "Status:         Ready,Stale\n"
        "Kind:           ordinary\n"
        "Kubernetes:     v1.36.3\n"
        "Nodes:          4\n"
        "Placements:     3, 5 replicas held\n"
        "Unbound pods:   0\n"
        "Seen:           2s ago\n"
        "Orders done:    311 (generation 1)\n"
        "Stale:          a gap\n"
        "Resources:\n"
        "  RESOURCE   KNOWN   USED   HELD   FREE\n"
        "  cpu        64      16     8      40\n"
        "  memory     256Gi   64Gi   0      192Gi\n"
        "  pods       440     10     4      426\n"
        "Debt:\n"
        "  cpu=2\n"
        "Labels:\n"
        "  topology.kubernetes.io/region=eu-1\n"
        "Taints:\n"
        "  gpu=:NoSchedule\n"
    )


def test_a_node_is_described_with_its_room(server: Server):
    server.answer(
        "GET /v1/clusters/east/nodes?limit=500", page(make_node("n-1"), make_node("n-2", placements={"01JF": 4}))
    )

    result = server.run("describe", "node", "n-2", "--cluster", "east")

    assert result.stdout == (
        "Name:      n-2\n"
        "Cluster:   east\n"
        "Status:    Ready\n"
        "Resources:\n"
        "  RESOURCE   ALLOCATABLE   REQUESTED   FREE\n"
        "  cpu        16            12500m      3500m\n"
        "  memory     64Gi          48Gi        16Gi\n"
        "  pods       110           57          53\n"
        "Placements:\n"
        "  01JF=4\n"
        "Labels:\n"
        "  topology.kubernetes.io/zone=eu-1a\n"
        "Taints:\n"
        "  gpu=:NoSchedule\n"
    )


def test_an_explanation_names_the_chosen_first(server: Server):
    verdicts = (
        make_verdict("east", "refused", reason="insufficient cpu: wants 500m, has 200m free"),
        make_verdict("north", "feasible", fits=3),
        make_verdict("west", "chosen", reason="most room", wanted=40, fits=60, previous=10),
    )
    explanation = make_explanation(*verdicts, summary="40 of 40 placed in west", reasons=["one more node would do"])
    server.answer("GET /v1/workloads?name=web&limit=500", page(make_workload()))
    server.answer(f"GET /v1/workloads/{WEB}/explanation", explanation)

    result = server.run("explain", "web")

    assert result.stdout == (
        "40 of 40 placed in west\n"
        f"placed, version 1, decided 20h ago (decision {CHOICE})\n"
        "\n"
        "CLUSTER   VERDICT    WANTED   FITS   PREVIOUS   AGE   REASON\n"
        "west      chosen     40       60     10         2s    most room\n"
        "north     feasible   0        3      0          2s    -\n"
        "east      refused    0        0      0          2s    insufficient cpu: wants 500m, has 200m free\n"
        "\n"
        "- one more node would do\n"
    )


def test_an_older_decision_can_be_explained(server: Server):
    server.answer(f"GET /v1/decisions/{CHOICE}", make_explanation(summary="nothing moved"))

    result = server.run("explain", "web", "--decision", CHOICE)

    assert result.stdout.startswith("nothing moved\n")


def test_an_undecided_workload_has_no_explanation(server: Server):
    server.answer("GET /v1/workloads?name=web&limit=500", page(make_workload()))
    said = problem(404, "not-found", "the workload has not been decided yet")
    server.answer(f"GET /v1/workloads/{WEB}/explanation", said)

    result = server.run("explain", "web")

    assert (result.stderr, result.exit_code) == ("error: Not Found: the workload has not been decided yet\n", 1)


def test_top_draws_what_is_used_held_and_free(server: Server):
    server.answer("GET /v1/clusters", page(make_cluster("east")))
    pool = {"cpu": make_figures("10", "12", "1", "0"), "nvidia.com/gpu": make_figures("0", "0", "0", "0")}
    server.answer("GET /v1/pool", {"resources": pool})

    result = server.run("top")

    assert result.stdout == (
        "CLUSTER   RESOURCE         KNOWN   USED   HELD   FREE    TAKEN   USE\n"
        "east      cpu              64      16     8      40      37%     ██████▒▒▒···············\n"
        "east      memory           256Gi   64Gi   0      192Gi   25%     ██████··················\n"
        "(pool)    cpu              10      12     1      0       130%    ████████████████████████\n"
        "(pool)    nvidia.com/gpu   0       0      0      0       -\n"
    )


def test_top_of_one_cluster_leaves_out_the_pool(server: Server):
    server.answer("GET /v1/clusters/east", make_cluster("east"))

    result = server.run("top", "east", "-o", "wide")

    assert [line.split()[:2] for line in result.stdout.splitlines()[1:]] == [
        ["east", "cpu"],
        ["east", "memory"],
        ["east", "pods"],
    ]


def test_a_decision_that_comes_out_the_same_is_done(server: Server):
    placed = {"east": 25, "west": 15}
    server.answer(f"POST /v1/decisions/{CHOICE}/replay", {"same": True, "placed": placed, "recomputed": placed})

    result = server.run("replay", CHOICE)

    assert (result.stdout, result.exit_code) == (f"decision {CHOICE} comes out the same: east:25,west:15\n", 0)


def test_a_decision_that_comes_out_otherwise_fails(server: Server):
    answer = {"same": False, "placed": {"east": 25}, "recomputed": {"west": 25}}
    server.answer(f"POST /v1/decisions/{CHOICE}/replay", answer)

    result = server.run("replay", CHOICE)

    assert (result.stdout, result.exit_code) == (f"decision {CHOICE} differs: stored east:25; computed west:25\n", 1)
