"""The hub as its callers see it: REST, with waiting that tells what was seen last and what the processes logged."""

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import aiohttp

Json = Any
POLL_SECONDS: Final = 0.2
REQUEST_SECONDS: Final = 20
WAIT_SECONDS: Final = 30


class Hub:
    """An API at *url*; *logs* tells what to print beside a wait that ends in vain."""

    def __init__(self, url: str, logs: Callable[[], str], token: str = "") -> None:
        self.url = url
        self.logs = logs
        self.token = token

    def showing(self, token: str) -> "Hub":
        """The same, called with *token*."""
        return Hub(self.url, self.logs, token)

    async def request(
        self, method: str, path: str, body: Json = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Json]:
        """Status and body of the answer."""
        kind = "application/merge-patch+json" if method == "PATCH" and "/workloads/" in path else "application/json"
        sent = {"Content-Type": kind} if body is not None else {}
        sent |= {"Authorization": f"Bearer {self.token}"} if self.token else {}
        data = None if body is None else json.dumps(body)
        timeout = aiohttp.ClientTimeout(total=REQUEST_SECONDS)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.request(method, self.url + path, data=data, headers={**sent, **(headers or {})}) as response,
        ):
            text = await response.text()
            return response.status, json.loads(text) if text else None

    async def get(self, path: str) -> Json:
        """What is at *path*; it must be there."""
        return await self._succeed("GET", path)

    async def place(self, manifest: Json, **fields: Json) -> str:
        """Ask for a workload; its id."""
        answer = await self._succeed("POST", "/v1/workloads", {"manifest": manifest, **fields})
        return str(answer["id"])

    async def patch(self, path: str, body: Json) -> Json:
        """Change what is at *path*."""
        return await self._succeed("PATCH", path, body)

    async def delete(self, workload: str) -> None:
        """Ask for a workload's end."""
        await self._succeed("DELETE", f"/v1/workloads/{workload}")

    async def _succeed(self, method: str, path: str, body: Json = None) -> Json:
        status, answer = await self.request(method, path, body)
        assert status < 300, f"{method} {path}: {status} {answer}\n{self.logs()}"
        return answer

    # --- waiting -----------------------------------------------------------------------------------------------------

    async def until(self, path: str, predicate: Callable[[Json], bool], seconds: float = WAIT_SECONDS) -> Json:
        """Read *path* until its body satisfies *predicate*, and answer that body."""
        ends, status, body = time.monotonic() + seconds, 0, None
        while time.monotonic() < ends:
            try:
                status, body = await self.request("GET", path)
            except (aiohttp.ClientError, TimeoutError) as error:
                status, body = 0, str(error)
            if status == 200 and predicate(body):
                return body
            await asyncio.sleep(POLL_SECONDS)
        seen = json.dumps(body, indent=1)[:4000]
        raise AssertionError(f"{path} was not as wanted within {seconds} s: {status} {seen}\n{self.logs()}")

    async def runs(self, workload: str, replicas: int, seconds: float = WAIT_SECONDS) -> Json:
        """Wait until so many replicas are ready, and nothing is held; the workload then."""
        return await self.until(f"/v1/workloads/{workload}", lambda body: is_settled(body, replicas), seconds)

    async def gone(self, workload: str, seconds: float = WAIT_SECONDS) -> None:
        """Wait until the workload is no more."""
        ends = time.monotonic() + seconds
        while (answer := await self.request("GET", f"/v1/workloads/{workload}"))[0] != 404:
            assert time.monotonic() < ends, f"workload {workload} is still there: {answer}\n{self.logs()}"
            await asyncio.sleep(POLL_SECONDS)


def is_settled(workload: Json, replicas: int) -> bool:
    """Whether what is asked for runs, was seen to, and nothing is held."""
    placements = workload["placements"]
    figures = ((each["replicas"], each["bound"], each["ready"], each["held"]) for each in placements)
    sums = [sum(column) for column in zip(*figures, strict=True)] or [0, 0, 0, 0]
    return workload["decided"] == workload["version"] and sums == [replicas, replicas, replicas, 0]


def by_cluster(workload: Json) -> dict[str, int]:
    """How many replicas are wanted in each cluster that has any."""
    return {each["cluster"]: each["replicas"] for each in workload["placements"] if each["replicas"]}


def clusters_of(workload: Json) -> set[str]:
    """The clusters in which anything of it stands, or may."""
    return {each["cluster"] for each in workload["placements"]}
