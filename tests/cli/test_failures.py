"""What is said when the server is not there, refuses, or is something else; and the exit status of each."""

import re
import socket

import pytest

from tests.cli.server import Said, Server, problem

LIST = "GET /v1/workloads?limit=500"


def test_no_server_says_how_to_start_or_name_one():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"

    result = Server(url=url).run("get", "workloads")

    assert result.stderr == (
        f"error: no server at {url} (connection refused). Start one with `federation up`, or name yours with --server.\n"
    )
    assert (result.stdout, result.exit_code) == ("", 3)


def test_a_server_that_is_no_federation_is_told_from_one_that_refuses(server: Server):
    server.answer(LIST, Said("<html>", 404, "text/html"))

    result = server.run("get", "workloads")

    assert "what answers there is no federation server: HTTP 404" in result.stderr
    assert result.exit_code == 3


def test_a_server_that_speaks_no_http_is_told():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        peer = _answering(listener, b"SSH-2.0-x\r\n")

        result = Server(url=url).run("get", "workloads")
        peer.join(timeout=5)

    assert "does not speak HTTP" in result.stderr
    assert result.exit_code == 3


@pytest.mark.parametrize("url", ["ftp://x", "127.0.0.1:8080", "http://[", "http://"])
def test_a_server_that_is_no_url_is_wrong_usage(url: str):
    result = Server(url=url).run("get", "workloads")

    assert result.stderr == f"error: --server is not an http or https URL: {url}\n"
    assert result.exit_code == 2


def test_the_option_goes_before_the_environment(server: Server):
    server.answer(LIST, {"items": [], "next": None})

    result = Server(url="http://127.0.0.1:1").run("get", "workloads", "--server", server.url + "/")

    assert (result.exit_code, len(server.asked)) == (0, 1)


def test_a_token_is_shown_and_its_absence_is_helped(server: Server):
    server.answer(LIST, problem(401, "unauthorized", "no valid token"))

    result = server.run("get", "workloads", env={"FEDERATION_TOKEN": "t-1"})

    assert server.asked[0].headers["Authorization"] == "Bearer t-1"
    assert result.stderr == "error: Unauthorized: no valid token\nGive a token with --token or FEDERATION_TOKEN.\n"
    assert result.exit_code == 1


def test_a_fault_of_the_server_names_the_line_of_its_log(server: Server):
    server.answer(LIST, problem(500, "internal", "something went wrong here"))

    result = server.run("get", "workloads")

    assert result.stderr == (
        "error: Internal Server Error: something went wrong here\nThe server's log has it under request id r-1.\n"
    )


def test_an_unknown_type_is_wrong_usage(server: Server):
    result = server.run("get", "pods", env={"COLUMNS": "200"})

    assert "'pods' is none of: workloads, clusters, nodes, decisions, pool, parked" in result.stderr
    assert (result.exit_code, server.asked) == (2, [])


@pytest.mark.parametrize("words", [("describe", "pool"), ("describe", "clusters"), ("get", "decisions")])
def test_what_needs_a_name_asks_for_it(server: Server, words: tuple[str, ...]):
    result = server.run(*words)

    assert re.search("name (a|the) workload", " ".join(result.stderr.split()))
    assert (result.exit_code, server.asked) == (2, [])


def _answering(listener: socket.socket, text: bytes):
    import threading

    def answer() -> None:
        peer, _ = listener.accept()
        peer.recv(4096)
        peer.sendall(text)
        peer.close()

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    return thread
