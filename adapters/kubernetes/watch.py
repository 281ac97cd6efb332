"""List and watch of one resource: everything first, then what changes, over every way in which a server can fail.

The first listing is a streaming one where the server has it, else pages. A watch that ends is taken up at the last
resourceVersion; one that falls silent is dropped; what is too old (410, as a status or in an ERROR event) and what a
listing tells only in part are listed again. Between failures the pause doubles, with jitter.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing
from typing import Final, Generic, TypeVar

import msgspec
import structlog
from msgspec import Raw, Struct

from adapters.kubernetes.answers import Busy, Denied, Expired, TooLarge, stream_problem
from adapters.kubernetes.client import ApiServer, Request
from adapters.kubernetes.kinds import decoded
from adapters.kubernetes.listing import Listing, Reader, Resource
from adapters.kubernetes.objects import Read
from federation.domain.errors import FederationError, Invalid, NotFound, Unavailable

T = TypeVar("T", bound=Read)
ADDED: Final = "ADDED"
MODIFIED: Final = "MODIFIED"
DELETED: Final = "DELETED"
_BOOKMARK: Final = "BOOKMARK"
_ERROR: Final = "ERROR"
_INITIAL_END: Final = "k8s.io/initial-events-end"
_INITIAL: Final = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}
_MOST_WAIT_SECONDS: Final = 60.0
_LEAST_WATCH_SECONDS: Final = 1.0
_log = structlog.get_logger(__name__)


class Pace(Struct, frozen=True, kw_only=True):
    """The limits of one list + watch.

    A server sends bookmarks about once a minute: *silence_seconds* is above that. The pause between failures begins
    anew after *calm_seconds* without one.
    """

    watch_seconds: int = 300
    silence_seconds: float = 90.0
    stream_list_seconds: float = 120.0
    first_pause_seconds: float = 0.2
    most_pause_seconds: float = 30.0
    calm_seconds: float = 60.0
    absent_seconds: float = 300.0
    page: int = 500
    batch: int = 500
    line_bytes: int = 16 * 2**20


class Batch(Struct, Generic[T], frozen=True, kw_only=True):
    """Some of what was told. *begins*: a listing begins with it; *complete*: with it, the listing is whole.

    *sees* False: the watch was lost; True: it is back.
    """

    sees: bool | None = None

    begins: bool = False
    complete: bool = False
    told: list[tuple[str, T]] = []


class _Event(Struct, frozen=True):
    type: str
    object: Raw


class _BookmarkMeta(Struct, frozen=True, rename="camel"):
    resource_version: str = ""
    annotations: dict[str, str] | None = None


class _Bookmark(Struct, frozen=True):
    metadata: _BookmarkMeta = _BookmarkMeta()


_EVENT: Final = msgspec.json.Decoder(_Event)


class Reflector(Generic[T]):
    """Follows one resource for ever."""

    def __init__(self, api: ApiServer, resource: Resource[T], pace: Pace | None = None) -> None:
        self._api = api
        self._resource = resource
        self._pace = pace or Pace()
        self._reader = Reader(resource.kind)
        self._version = ""
        self._can_stream = True
        self._streams_next = True
        self._page = self._pace.page
        self._pause = 0.0
        self._failed_at = 0.0
        self._sees = True
        self._answers = True

    async def follow(self) -> AsyncGenerator[Batch[T], None]:
        """Batches without end; the caller ends it by cancellation or by closing the iterator."""
        while True:
            try:
                async with aclosing(self._round()) as batches:
                    async for batch in batches:
                        yield batch
            except FederationError as error:
                if not (self._resource.optional and isinstance(error, (NotFound, Denied))):
                    if self._sees:
                        self._sees = False
                        yield Batch(sees=False)
                    await self._recover(error)
                    continue
                self._sees = True
                self._version = ""
                yield Batch(begins=True, complete=True, sees=True)
                await asyncio.sleep(self._pace.absent_seconds * random.uniform(0.5, 1.0))

    def _round(self) -> AsyncGenerator[Batch[T], None]:
        """One request's worth: a listing where there is none to go on from, else a watch."""
        if self._version:
            return self._watch()
        return self._stream() if self._can_stream and self._streams_next else self._list()

    async def _recover(self, error: FederationError) -> None:
        """Note what the error means for the next round, and wait."""
        if isinstance(error, (Expired, Invalid)):
            self._version = ""
        if isinstance(error, TooLarge):
            self._page = max(1, self._page // 4)
        wait = self._next_pause(error) * random.uniform(0.5, 1.0)
        if isinstance(error, Busy):
            wait = max(wait, min(error.retry_after, _MOST_WAIT_SECONDS))
        _log.info("watch interrupted", path=self._resource.path, error=str(error)[:300], wait_seconds=round(wait, 2))
        await asyncio.sleep(wait)

    def _next_pause(self, error: FederationError) -> float:
        """Twice the last one, unless all has been well for a while, or who was away has come to answer again."""
        answers = isinstance(error, (Expired, Denied))
        if answers and not self._answers:
            self._pause = 0.0
        self._answers = answers
        now = asyncio.get_running_loop().time()
        if now - self._failed_at > self._pause + self._pace.calm_seconds:
            self._pause = 0.0
        self._failed_at = now
        self._pause = min(max(self._pause * 2, self._pace.first_pause_seconds), self._pace.most_pause_seconds)
        return self._pause

    # --- listing ---------------------------------------------------------------------------------------------------

    async def _list(self) -> AsyncGenerator[Batch[T], None]:
        listing = Listing(self._api, self._resource, self._page)
        yield Batch(begins=True)
        async with aclosing(listing.pages()) as pages:
            async for page in pages:
                yield Batch(told=[(ADDED, each) for each in page])
        self._version, self._streams_next, self._sees = listing.version, True, True
        yield Batch(complete=True, sees=True)

    async def _stream(self) -> AsyncGenerator[Batch[T], None]:
        """A watch that begins with everything there is. Where that fails, pages do the next listing."""
        self._streams_next = False
        yield Batch(begins=True)
        try:
            async with aclosing(self._events(_INITIAL)) as batches:
                async for batch in batches:
                    yield batch
        except Invalid:
            self._can_stream = False
            raise
        if not self._version:
            raise Unavailable("the streaming list ended before it was complete")

    # --- watching --------------------------------------------------------------------------------------------------

    async def _watch(self) -> AsyncGenerator[Batch[T], None]:
        begun = asyncio.get_running_loop().time()
        async with aclosing(self._events({"resourceVersion": self._version})) as batches:
            async for batch in batches:
                yield batch
        if asyncio.get_running_loop().time() - begun < _LEAST_WATCH_SECONDS:
            raise Unavailable("the watch ended as soon as it began")

    async def _events(self, query: Mapping[str, str]) -> AsyncGenerator[Batch[T], None]:
        until = asyncio.get_running_loop().time() + self._pace.stream_list_seconds
        async with self._api.stream(self._request(query), self._pace.silence_seconds) as response:
            if not self._sees:
                self._sees = True
                yield Batch(sees=True)
            lines = Lines(self._pace.line_bytes)
            async for part in response.content.iter_any():
                for batch in self._batches(lines.split(part)):
                    yield batch
                if not self._version and asyncio.get_running_loop().time() > until:
                    raise Unavailable("the streaming list does not come to its end")

    def _request(self, query: Mapping[str, str]) -> Request:
        seconds = max(1, int(self._pace.watch_seconds * random.uniform(1.0, 2.0)))
        fixed = {"watch": "true", "allowWatchBookmarks": "true", "timeoutSeconds": str(seconds)}
        if self._resource.selector:
            fixed["labelSelector"] = self._resource.selector
        return Request(path=self._resource.path, query={**fixed, **query}, seconds=seconds + self._pace.silence_seconds)

    def _batches(self, lines: list[bytes]) -> Iterator[Batch[T]]:
        """What the lines tell; what they told before one that cannot be read is handed out first."""
        for start in range(0, len(lines), self._pace.batch):
            told: list[tuple[str, T]] = []
            complete, failure = False, None
            for line in lines[start : start + self._pace.batch]:
                try:
                    complete |= self._take(line, told)
                except FederationError as error:
                    failure = error
                    break
            if told or complete:
                yield Batch(told=told, complete=complete)
            if failure is not None:
                raise failure

    def _take(self, line: bytes, told: list[tuple[str, T]]) -> bool:
        """Take one line of the stream; whether it completes the listing."""
        event = _event(line)
        if event.type == _ERROR:
            raise stream_problem(bytes(event.object))
        if event.type == _BOOKMARK:
            return self._marked(event.object)
        read = self._reader.read(event.object)
        if read is not None:
            told.append((event.type, read))
            if self._version:
                self._version = read.metadata.resource_version or self._version
        return False

    def _marked(self, raw: Raw) -> bool:
        """Take a bookmark's version; whether it ends the initial events."""
        metadata = decoded(bytes(raw), _Bookmark).metadata
        ends = not self._version and (metadata.annotations or {}).get(_INITIAL_END) == "true"
        if metadata.resource_version and (self._version or ends):
            self._version = metadata.resource_version
            self._streams_next = True
        return ends and bool(self._version)


def _event(line: bytes) -> _Event:
    try:
        return _EVENT.decode(line)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Unavailable(f"a line of a watch makes no sense: {error}") from error


class Lines:
    """Cuts a stream into lines, none longer than *most_bytes*."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._parts: list[bytes] = []
        self._size = 0

    def split(self, part: bytes) -> list[bytes]:
        """The lines that are complete with *part*."""
        head, newline, tail = part.partition(b"\n")
        if not newline:
            self._keep(part)
            return []
        self._keep(head)
        first = b"".join(self._parts)
        *others, rest = tail.split(b"\n")
        self._parts, self._size = [], 0
        self._keep(rest)
        return [line for line in (first, *others) if line]

    def _keep(self, part: bytes) -> None:
        self._size += len(part)
        if self._size > self._most_bytes:
            raise TooLarge(f"a line of a watch is longer than {self._most_bytes} bytes")
        if part:
            self._parts.append(part)
