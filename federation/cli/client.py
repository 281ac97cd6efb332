"""HTTP to one server: JSON in, JSON out, every wait with a limit, every failure in words."""

import http.client
import json
import socket
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

from federation.cli.failures import USAGE, Failed, no_server, refused

REQUEST_SECONDS: Final = 30.0
STREAM_SILENCE_SECONDS: Final = 60.0
_MOST_BYTES: Final = 64 * 2**20
PAGE: Final = 500
_MOST_PAGES: Final = 10_000
JSON: Final = "application/json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request; *wait_seconds* is how long the server is asked to wait before it answers."""

    method: str = "GET"
    path: str
    query: Mapping[str, str | None] = field(default_factory=dict)
    body: object = None
    headers: Mapping[str, str] = field(default_factory=dict)
    wait_seconds: int = 0

    @property
    def target(self) -> str:
        """Path and query as they stand in the request line."""
        query = urlencode({name: value for name, value in self.query.items() if value})
        return f"{self.path}?{query}" if query else self.path


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back of a request that was not refused."""

    status: int
    body: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """One server, as one caller."""

    server: str
    token: str = ""
    seconds: float = REQUEST_SECONDS

    def call(self, request: Request) -> Answer:
        """Send *request*; a refusal or a missing server is raised as Failed."""
        connection = self._connection(self.seconds + request.wait_seconds)
        try:
            response = self._sent(connection, request)
            return self._read(response)
        except (OSError, http.client.HTTPException) as error:
            raise no_server(self.server, _reason(error)) from error
        finally:
            connection.close()

    def get(self, path: str, **query: str | None) -> Any:
        """The body of one resource."""
        return self.call(Request(path=path, query=query)).body

    def items(self, path: str, *, limit: int | None = PAGE, **query: str | None) -> Iterator[dict[str, Any]]:
        """All items of a list, page by page; lists that come whole take no *limit*."""
        after: str | None = None
        for _ in range(_MOST_PAGES):
            page = self.get(path, **query, limit=None if limit is None else str(limit), after=after)
            yield from page.get("items", ())
            after = page.get("next")
            if not after:
                return

    def events(self) -> Iterator[str]:
        """The types of the server's live events, until the stream ends."""
        connection = self._connection(STREAM_SILENCE_SECONDS)
        try:
            response = self._sent(connection, Request(path="/v1/stream", headers={"Accept": "text/event-stream"}))
            if response.status != 200:
                self._read(response)
                return
            for line in response:
                if line.startswith(b"event:"):
                    yield line[6:].strip().decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            raise no_server(self.server, _reason(error)) from error
        finally:
            connection.close()

    def _connection(self, seconds: float) -> http.client.HTTPConnection:
        scheme, host, port = _address(self.server)
        kind = http.client.HTTPSConnection if scheme == "https" else http.client.HTTPConnection
        return kind(host, port, timeout=seconds)

    def _sent(self, connection: http.client.HTTPConnection, request: Request) -> http.client.HTTPResponse:
        headers = {"Accept": f"{JSON}, application/problem+json", "User-Agent": "federation-cli", **request.headers}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        if request.wait_seconds:
            headers["Prefer"] = f"wait={request.wait_seconds}"
        body = None
        if request.body is not None:
            body = json.dumps(request.body).encode()
            headers.setdefault("Content-Type", JSON)
        connection.request(request.method, f"{urlsplit(self.server).path.rstrip('/')}{request.target}", body, headers)
        return connection.getresponse()

    def _read(self, response: http.client.HTTPResponse) -> Answer:
        raw = response.read(_MOST_BYTES + 1)
        if len(raw) > _MOST_BYTES:
            raise Failed(f"the server's answer is larger than {_MOST_BYTES // 2**20} MiB")
        body = self._decoded(raw, response)
        if response.status >= 400:
            raise refused(body, response.status)
        return Answer(status=response.status, body=body)

    def _decoded(self, raw: bytes, response: http.client.HTTPResponse) -> Any:
        if not raw and response.status < 400:
            return {}
        try:
            body = json.loads(raw)
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise no_server(self.server, f"what answers there is no federation server: HTTP {response.status}")
        return body


def segment(text: str) -> str:
    """*text* as one part of a path."""
    return quote(text, safe="")


def _address(server: str) -> tuple[str, str, int | None]:
    try:
        parts = urlsplit(server)
        scheme, host, port = parts.scheme, parts.hostname, parts.port
    except ValueError:
        scheme, host, port = "", None, None
    if scheme not in ("http", "https") or not host:
        raise Failed(f"--server is not an http or https URL: {server}", USAGE)
    return scheme, host, port


def _reason(error: Exception) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, socket.gaierror):
        return "unknown host"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {error.reason or error}"
    if isinstance(error, ConnectionError | http.client.IncompleteRead):
        return "the connection broke"
    if isinstance(error, http.client.HTTPException):
        return "what answers there does not speak HTTP"
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
