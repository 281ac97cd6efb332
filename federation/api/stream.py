"""The live stream: one reader of what changed, a bounded ring of events, and clients that follow it or are let go."""

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Final

import msgspec
import structlog
from aiohttp import web

from federation.api.changes import Change, Changes
from federation.api.parts import ApiParts
from federation.domain.errors import Unavailable
from federation.services.callers import Caller

_SPACING_SECONDS: Final = 0.1
_LOOK_SECONDS: Final = 1.0
_RETRY_SECONDS: Final = 1.0
_READY_SECONDS: Final = 5.0
_LINGER_SECONDS: Final = 60.0
_LONGEST_ID: Final = 64
_HEADERS: Final = {"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
_log = structlog.get_logger("federation.api")


@dataclass(frozen=True, slots=True)
class Told:
    """An event of the ring as it goes out. *team* None is for everybody."""

    team: str | None
    text: bytes


class Hub:
    """The ring. It is filled while there are clients, and for a while after, so that they can come back and resume."""

    def __init__(self, parts: ApiParts) -> None:
        self._parts = parts
        self._ring: deque[Told] = deque(maxlen=parts.settings.ring_events)
        self._boot = ""
        self._end = 0
        self._news = asyncio.Event()
        self._closed = asyncio.Event()
        self._ready = asyncio.Event()
        self.clients = 0
        self._idle_since = 0.0
        self._task: asyncio.Task[None] | None = None

    @property
    def closed(self) -> bool:
        return self._closed.is_set()

    def close(self) -> None:
        """Let all clients and the reader end."""
        self._closed.set()
        self._wake()
        if self._task is not None:
            self._task.cancel()

    async def ended(self) -> None:
        """Until the reader has come to its end."""
        if self._task is not None:
            await asyncio.wait([self._task], timeout=_READY_SECONDS)

    def join(self) -> None:
        """One more client; refused beyond the limit."""
        if self.closed or self.clients >= self._parts.settings.most_streams:
            raise Unavailable("too many streams are open")
        self.clients += 1
        if self._task is None or self._task.done():
            self._restart()
            self._task = asyncio.create_task(self._run(), name="stream")

    def leave(self) -> None:
        self.clients -= 1
        self._idle_since = asyncio.get_running_loop().time()

    def position(self, last_id: str | None) -> int | None:
        """Where a client goes on: at the end, or after the event that it saw last; None when that cannot be resumed."""
        if last_id is None:
            return self._end
        boot, _, number = last_id[:_LONGEST_ID].partition("-")
        if boot != self._boot or not (number.isascii() and number.isdigit()) or not self._holds(int(number)):
            return None
        return int(number)

    def _holds(self, position: int) -> bool:
        return self._end - len(self._ring) <= position <= self._end

    def after(self, position: int, caller: Caller) -> tuple[bytes, int] | None:
        """What *caller* may see after *position*, and the new position; None when the ring has moved past it."""
        if not self._holds(position):
            return None
        start = position - (self._end - len(self._ring))
        seen = (told.text for place, told in enumerate(self._ring) if place >= start and _may_see(caller, told))
        return b"".join(seen), self._end

    def reset(self) -> bytes:
        """The event that says: read everything again, and go on from here."""
        return f"event: reset\nid: {self._boot}-{self._end}\ndata: {{}}\n\n".encode()

    async def ready(self) -> None:
        """Until the reader stands: what changes after that is told to whoever joined."""
        async with asyncio.timeout(_READY_SECONDS):
            await self._ready.wait()

    async def wait(self, seconds: float) -> bool:
        """Until something is told; False when nothing was within *seconds*."""
        news = self._news
        try:
            async with asyncio.timeout(seconds):
                return await news.wait()
        except TimeoutError:
            return False

    def tell(self, changes: list[Change]) -> None:
        for change in changes:
            self._end += 1
            data = msgspec.json.encode(change.body)
            head = f"event: {change.event}\nid: {self._boot}-{self._end}\ndata: ".encode()
            self._ring.append(Told(change.team, head + data + b"\n\n"))
        if changes:
            self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    def _restart(self) -> None:
        """A new ring under a new name: whoever saw events of the old one starts again."""
        self._boot = self._parts.ids.new().lower()
        self._ring.clear()
        self._end = 0
        self._ready.clear()

    async def _run(self) -> None:
        while not self.closed and self._is_wanted():
            try:
                await self._follow()
            except Unavailable as error:
                _log.warning("stream waits for the store", error=str(error))
            except Exception:  # noqa: BLE001 - it logs the traceback, and nobody else would
                # The supervisor of this one loop: whatever went wrong, clients are told to start again.
                _log.exception("stream reader failed")
            self._restart()
            self._wake()
            await asyncio.sleep(_RETRY_SECONDS)

    async def _follow(self) -> None:
        parts = self._parts
        changes = Changes(parts.store, parts.clock, parts.settings.silent_after_seconds)
        await parts.store.changed("view", 0)
        await changes.begin()
        self._ready.set()
        while not self.closed and self._is_wanted():
            self.tell(await changes.read())
            await asyncio.sleep(_SPACING_SECONDS)
            await parts.store.changed("view", _LOOK_SECONDS)

    def _is_wanted(self) -> bool:
        return self.clients > 0 or asyncio.get_running_loop().time() - self._idle_since < _LINGER_SECONDS


def _may_see(caller: Caller, told: Told) -> bool:
    return told.team is None or caller.sees(told.team)


async def serve(hub: Hub, request: web.Request, caller: Caller, parts: ApiParts) -> web.StreamResponse:
    """Follow the ring until the client goes, is too slow, its token ends, or the server stops."""
    hub.join()
    try:
        await hub.ready()
        position = hub.position(request.headers.get("Last-Event-ID"))
        response = web.StreamResponse(headers=_HEADERS)
        await response.prepare(request)
        follower = _Follower(hub, response, caller, parts)
        try:
            await follower.follow(position)
        except (TimeoutError, ConnectionResetError):
            # Slow or gone: what waits in the socket's buffer is of no use to anybody.
            if request.transport is not None:
                request.transport.abort()
        return response
    finally:
        hub.leave()


@dataclass(frozen=True, slots=True)
class _Follower:
    hub: Hub
    response: web.StreamResponse
    caller: Caller
    parts: ApiParts

    async def follow(self, position: int | None) -> None:
        await self._write(b"retry: 2000\n\n")
        while not self.hub.closed and not self._has_expired():
            found = None if position is None else self.hub.after(position, self.caller)
            if found is None:
                text, position = self.hub.reset(), self.hub.position(None)
                await self._write(text)
                continue
            text, position = found
            if text:
                await self._write(text)
            elif not await self.hub.wait(self.parts.settings.heartbeat_seconds):
                await self._write(b": still here\n\n")

    def _has_expired(self) -> bool:
        return 0 < self.caller.expires_ms <= self.parts.clock.now_ms()

    async def _write(self, text: bytes) -> None:
        """Write, and give up on a client that does not take it: its place is for others."""
        async with asyncio.timeout(self.parts.settings.write_seconds):
            await self.response.write(text)
