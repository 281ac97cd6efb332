"""Requests to one API server by kubernetes_asyncio: bytes in and out, no redirects, a time limit on each.

A request that the server puts off (429 with Retry-After) is sent again within the same limit. Nothing else is: the
caller knows whether its write may be repeated.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import aiohttp
from kubernetes_asyncio.client import ApiClient
from kubernetes_asyncio.config import ConfigException
from msgspec import Struct

from adapters.kubernetes.access import Access
from adapters.kubernetes.answers import Busy, Unauthenticated, failure_in, problem, read_bounded
from federation.domain.errors import Unavailable

JSON: Final = "application/json"
APPLY: Final = "application/apply-patch+yaml"
_FAILURE_WITHIN: Final = 4096
_LEAST_WAIT_SECONDS: Final = 1.0


class Limits(Struct, frozen=True, kw_only=True):
    """*request_seconds* must stay below the Lease's duration, so that no write outlives its agent (protocol 4.3)."""

    request_seconds: float = 8.0
    list_seconds: float = 60.0
    connect_seconds: float = 5.0
    answer_bytes: int = 64 * 2**20


class Request(Struct, frozen=True, kw_only=True):
    """One request; *path* is already escaped."""

    method: str = "GET"
    path: str
    query: Mapping[str, str] = {}
    body: Mapping[str, Any] | None = None
    content_type: str = JSON
    accept: str = JSON
    seconds: float = 0.0


class ApiServer:
    """One API server, reached as *access* says. *answers* counts what it said, by status."""

    def __init__(self, access: Access, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.answers: Counter[int] = Counter()
        self._access = access
        self._client: ApiClient | None = None
        self._opening = asyncio.Lock()

    async def call(self, request: Request) -> bytes:
        """The body of a success; any other answer raises what it stands for."""
        seconds = request.seconds or self.limits.request_seconds
        try:
            async with asyncio.timeout(seconds):
                return await self._until_taken(request, asyncio.get_running_loop().time() + seconds)
        except TimeoutError as error:
            raise Unavailable(f"{request.method} {request.path}: no answer within {seconds:g} s") from error

    async def _until_taken(self, request: Request, until: float) -> bytes:
        renewed = False
        while True:
            try:
                return await self._once(request)
            except Busy as busy:
                left = until - asyncio.get_running_loop().time()
                if not busy.put_off or max(busy.retry_after, _LEAST_WAIT_SECONDS) >= left:
                    raise
                await asyncio.sleep(max(busy.retry_after, _LEAST_WAIT_SECONDS))
            except Unauthenticated:
                if renewed or not await self._renew():
                    raise
                renewed = True

    async def _once(self, request: Request) -> bytes:
        total = aiohttp.ClientTimeout(total=request.seconds or self.limits.request_seconds)
        async with self._answer(request, total) as response:
            body = await read_bounded(response, self.limits.answer_bytes)
        failure = failure_in(body) if len(body) < _FAILURE_WITHIN else None
        if failure is not None:
            raise failure
        return body

    @asynccontextmanager
    async def stream(self, request: Request, silence_seconds: float) -> AsyncIterator[aiohttp.ClientResponse]:
        """An answer that is read as it comes; TimeoutError or Unavailable when nothing comes for *silence_seconds*."""
        limits = aiohttp.ClientTimeout(
            total=request.seconds,
            connect=self.limits.connect_seconds,
            sock_connect=self.limits.connect_seconds,
            sock_read=silence_seconds,
        )
        try:
            async with self._answer(request, limits) as response:
                yield response
        except Unauthenticated:
            await self._renew()
            raise
        except TimeoutError as error:
            raise Unavailable(f"watch of {request.path}: silent for {silence_seconds:g} s") from error

    @asynccontextmanager
    async def _answer(self, request: Request, limits: aiohttp.ClientTimeout) -> AsyncIterator[aiohttp.ClientResponse]:
        try:
            response = await self._send(request, limits)
            try:
                self.answers[response.status] += 1
                await self._check(response)
                yield response
            finally:
                response.close()
        except (aiohttp.ClientError, OSError, ConfigException) as error:
            if isinstance(error, TimeoutError):
                raise
            raise Unavailable(f"{request.method} {request.path}: {type(error).__name__}: {error}") from error

    async def _send(self, request: Request, limits: aiohttp.ClientTimeout) -> aiohttp.ClientResponse:
        client = await self._opened()
        response: aiohttp.ClientResponse = await client.call_api(
            request.path,
            request.method,
            query_params=list(self._query(request).items()),
            header_params={"Accept": request.accept, "Content-Type": request.content_type},
            body=request.body,
            auth_settings=["BearerToken"],
            _preload_content=False,
            _request_timeout=limits,
        )
        return response

    def _query(self, request: Request) -> dict[str, str]:
        """For a write the server is told the limit too, so that it does nothing after we have given up."""
        if request.method == "GET":
            return {**request.query}
        limit = request.seconds or self.limits.request_seconds
        return {**request.query, "timeout": f"{int(limit * 1000)}ms"}

    async def _check(self, response: aiohttp.ClientResponse) -> None:
        if 200 <= response.status < 300:
            return
        body = await read_bounded(response, self.limits.answer_bytes)
        if 300 <= response.status < 400:
            raise Unavailable(f"the API server redirects, which is not followed ({response.status})")
        raise problem(response.status, body, response.headers.get("Retry-After"))

    async def _opened(self) -> ApiClient:
        async with self._opening:
            if self._client is None:
                self._client = await self._access.open()
            return self._client

    async def _renew(self) -> bool:
        async with self._opening:
            return self._client is not None and await self._access.renew(self._client)

    async def close(self) -> None:
        """Close the connections; what is under way fails."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()
