"""The command line against the real program: everything in one process, with simulated clusters, as `federation up` runs it."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.server import Server
from tests.cli.test_process import ROOT, environment

pytestmark = pytest.mark.slow

MANIFEST = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: api}
spec:
  replicas: 6
  selector: {matchLabels: {app: api}}
  template:
    metadata: {labels: {app: api}}
    spec: {containers: [{name: api, image: nginx, resources: {requests: {cpu: 100m, memory: 64Mi}}}]}
"""


@contextmanager
def running(data: Path) -> Iterator[Server]:
    """`federation up` on a port of its own, once it has clusters."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    words = [sys.executable, "-m", "federation", "up", "--listen", address, "--data-dir", str(data)]
    with (data / "log").open("w") as log:
        process = subprocess.Popen(words, cwd=ROOT, env=environment(), stdout=log, stderr=log)
    try:
        hub = Server(url=f"http://{address}")
        wait_for_clusters(hub, process, data / "log")
        yield hub
    finally:
        process.terminate()
        process.wait(timeout=30)


def wait_for_clusters(hub: Server, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 60
    while "Ready" not in hub.run("get", "clusters").stdout:
        assert process.poll() is None, f"it did not start:\n{log.read_text()[-4000:]}"
        assert time.monotonic() < deadline, log.read_text()[-4000:]
        time.sleep(0.5)


def test_a_workload_lives_from_place_to_delete(tmp_path: Path):
    with running(tmp_path) as hub:
        placed = hub.run("place", "web", "--replicas", "4", "--cpu", "100m", "--spread", "region:2:2", "--wait")
        scaled = hub.run("scale", "web", "--replicas", "6", "--wait")
        workload = json.loads(hub.run("get", "workload", "web", "-o", "json").stdout)
        explained = hub.run("explain", "web")
        described = hub.run("describe", "web")
        replayed = hub.run("replay", workload["decision"])
        listed = hub.run("get", "decisions", "web", "-o", "name")
        deleted = hub.run("delete", "web", "--timeout", "60s")
        left = hub.run("get", "workloads")

    assert (placed.exit_code, scaled.exit_code) == (0, 0), placed.output + scaled.output
    assert sum(placement["ready"] for placement in workload["placements"]) == 6
    assert explained.stdout.startswith("6 of 6 replicas in ")
    assert [line.split()[1] for line in explained.stdout.splitlines()[4:6]] == ["chosen", "chosen"]
    assert "Replicas:   6 wanted, 6 bound, 6 ready, 0 held\n" in described.stdout
    assert "comes out the same" in replayed.stdout
    assert f"decision/{workload['decision']}\n" in listed.stdout
    assert (deleted.stdout, left.stdout) == ("workload/web deleted\n", "")


def test_a_file_a_plan_and_what_finds_no_room(tmp_path: Path):
    with running(tmp_path) as hub:
        planned = hub.run("plan", "-f", "-", text=MANIFEST)
        nothing = hub.run("get", "workloads")
        placed = hub.run("place", "-f", "-", "--replicas", "3", text=MANIFEST)
        again = hub.run("place", "-f", "-", text=MANIFEST)
        replaced = hub.run("place", "-f", "-", "--replace", text=MANIFEST)
        huge = hub.run("place", "huge", "--replicas", "9000", "--cpu", "64")
        ended = hub.run("delete", "huge", "--timeout", "60s")

    assert planned.stdout.startswith("workload/api would be placed: ")
    assert nothing.stdout == ""
    assert placed.stdout.startswith("workload/api placed: ")
    assert (again.exit_code, "--replace" in again.stderr) == (1, True)
    assert replaced.exit_code == 0, replaced.output
    assert (huge.exit_code, huge.stdout.splitlines()[0]) == (1, "workload/huge waiting")
    assert ended.stdout == "workload/huge deleted\n"


def test_clusters_nodes_and_the_pool_are_read_and_cordoned(tmp_path: Path):
    with running(tmp_path) as hub:
        clusters = json.loads(hub.run("get", "clusters", "-o", "json").stdout)["items"]
        name = clusters[0]["name"]
        cordoned = hub.run("cordon", name)
        status = hub.run("get", "cluster", name)
        uncordoned = hub.run("uncordon", name)
        nodes = json.loads(hub.run("get", "nodes", "-o", "json").stdout)["items"]
        read = [
            hub.run(*words) for words in (("get", "pool"), ("get", "parked"), ("top",), ("describe", "cluster", name))
        ]
        node = hub.run("describe", "node", nodes[0]["name"], "--cluster", nodes[0]["cluster"])
        ours = hub.run("place", "mine", "--no-manifest", "--cpu", "100m")
        renewed = hub.run("renew", "mine")

    assert cordoned.stdout == f"cluster/{name} cordoned\n"
    assert "Ready,Cordoned" in status.stdout
    assert uncordoned.stdout == f"cluster/{name} uncordoned\n"
    assert len(nodes) == sum(cluster["nodes"] for cluster in clusters)
    assert [result.exit_code for result in (*read, node, renewed)] == [0] * 6
    assert "1 replica with federation.io/placement=" in ours.stdout
