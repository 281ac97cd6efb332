"""scale, delete, renew, cordon, uncordon: what is sent, and what is said when it is done."""

from tests.cli.builders import WEB, make_cluster, make_placement, make_workload
from tests.cli.server import Said, Server, page, problem

FOUND = "GET /v1/workloads?name=web&limit=500"
ONE = f"/v1/workloads/{WEB}"
GONE = problem(404, "not-found", "no such workload")


def test_scale_sends_the_new_count_and_tells_where_they_are(server: Server):
    after = make_workload(make_placement("east", 6), make_placement("west", 4))
    server.answer(FOUND, page(make_workload())).answer(f"PATCH {ONE}", after).answer(f"GET {ONE}", after)

    result = server.run("scale", "web", "--replicas", "10")

    assert (result.stdout, result.exit_code) == ("workload/web placed: east 6, west 4\n", 0)
    [asked] = server.sent("PATCH")
    assert (asked.body, asked.headers["Prefer"]) == ({"replicas": 10}, "wait=10")


def test_scale_needs_a_count(server: Server):
    result = server.run("scale", "web")

    assert (result.exit_code, server.asked) == (2, [])


def test_delete_waits_until_all_are_gone(server: Server):
    leaving = make_workload(phase="deleting")
    server.answer(FOUND, page(make_workload()))
    server.answer(f"DELETE {ONE}", Said(leaving, 202)).answer(f"GET {ONE}", leaving, GONE)

    result = server.run("delete", "web")

    assert (result.stdout, result.stderr) == ("workload/web deleted\n", "web: deleting\n")
    assert result.exit_code == 0


def test_delete_that_takes_too_long_says_that_it_goes_on(server: Server):
    leaving = make_workload(phase="deleting")
    server.answer(FOUND, page(make_workload()))
    server.answer(f"DELETE {ONE}", Said(leaving, 202)).answer(f"GET {ONE}", leaving)

    result = server.run("delete", "web", "--timeout", "0s")

    assert result.stderr == ("web: deleting\nerror: web: still deleting after 0s. It goes on without this command.\n")
    assert (result.stdout, result.exit_code) == ("", 1)


def test_delete_without_waiting_asks_no_more(server: Server):
    server.answer(FOUND, page(make_workload())).answer(f"DELETE {ONE}", Said(make_workload(phase="deleting"), 202))

    result = server.run("delete", "web", "--no-wait")

    assert result.stdout == "workload/web deleting\n"
    assert [asked.method for asked in server.asked] == ["GET", "DELETE"]


def test_nothing_is_deleted_when_one_of_the_names_is_wrong(server: Server):
    server.answer(FOUND, page(make_workload())).answer("GET /v1/workloads?name=api&limit=500", page())

    result = server.run("delete", "web", "api")

    assert (result.stderr, result.exit_code) == ("error: no workload api\n", 1)
    assert server.sent("DELETE") == []


def test_renew_tells_until_when_the_room_is_kept(server: Server):
    renewed = make_workload(leaseUntil="2026-11-24T14:00:00Z")
    server.answer(FOUND, page(make_workload())).answer(f"POST {ONE}/renewal", renewed)

    result = server.run("renew", "web")

    assert result.stdout == "workload/web renewed until 2026-11-24T14:00:00Z\n"


def test_cordon_and_uncordon_say_what_they_did(server: Server):
    for name in ("east", "west"):
        server.answer(f"PATCH /v1/clusters/{name}", make_cluster(name))

    cordoned = server.run("cordon", "east", "west")
    uncordoned = server.run("uncordon", "east")

    assert cordoned.stdout == "cluster/east cordoned\ncluster/west cordoned\n"
    assert uncordoned.stdout == "cluster/east uncordoned\n"
    assert [asked.body for asked in server.sent("PATCH")] == [
        {"cordoned": True},
        {"cordoned": True},
        {"cordoned": False},
    ]
