"""One consistent listing of a resource, page by page, and the reading of its objects one by one."""

from collections.abc import AsyncGenerator
from typing import Generic, TypeVar

import msgspec
import structlog
from msgspec import Raw, Struct

from adapters.kubernetes.answers import Expired
from adapters.kubernetes.client import ApiServer, Request
from adapters.kubernetes.kinds import decoded
from adapters.kubernetes.objects import Read
from federation.domain.errors import Unavailable

T = TypeVar("T", bound=Read)
_log = structlog.get_logger(__name__)


class Resource(Struct, Generic[T], frozen=True, kw_only=True):
    """What is listed and watched, and the fields that are read of it. What is *optional* may be absent or forbidden."""

    path: str
    kind: type[T]
    selector: str = ""
    optional: bool = False


class _PageMeta(Struct, frozen=True, rename="camel"):
    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")


class _Page(Struct, frozen=True):
    metadata: _PageMeta = _PageMeta()
    items: list[Raw] | None = None


class Listing(Generic[T]):
    """One consistent listing from storage, page by page."""

    def __init__(self, api: ApiServer, resource: Resource[T], page: int = 500) -> None:
        self.version = ""
        self._api = api
        self._resource = resource
        self._page = page
        self._reader = Reader(resource.kind)

    async def pages(self) -> AsyncGenerator[list[T], None]:
        """The pages in order; Expired when they no longer belong together."""
        seen: set[str] = set()
        token = ""
        while True:
            page = await self._fetch(token)
            yield [read for raw in page.items or () if (read := self._reader.read(raw)) is not None]
            self.version, token = page.metadata.resource_version, page.metadata.continue_
            if not token:
                return
            if token in seen:
                raise Expired(f"list of {self._resource.path}: the continue token repeats")
            seen.add(token)

    async def _fetch(self, token: str) -> _Page:
        query = {"limit": str(self._page)} | ({"continue": token} if token else {})
        if self._resource.selector:
            query["labelSelector"] = self._resource.selector
        request = Request(path=self._resource.path, query=query, seconds=self._api.limits.list_seconds)
        page = decoded(await self._api.call(request), _Page)
        if page.items is None or not page.metadata.resource_version:
            raise Unavailable(f"list of {self._resource.path}: no items or no resourceVersion")
        return page


async def list_all(api: ApiServer, resource: Resource[T]) -> list[T]:
    """Everything that storage holds now, in one consistent listing; begun again once when it expires."""
    try:
        return [each async for page in Listing(api, resource).pages() for each in page]
    except Expired:
        return [each async for page in Listing(api, resource).pages() for each in page]


class Reader(Generic[T]):
    """Reads objects one by one: one that cannot be read is left out and told in the log, and the rest go on."""

    def __init__(self, kind: type[T]) -> None:
        self._kind = kind
        self._decoder = msgspec.json.Decoder(kind)

    def read(self, raw: Raw) -> T | None:
        """The object, or None where it makes no sense."""
        try:
            return self._decoder.decode(raw)
        except (msgspec.DecodeError, RecursionError) as error:
            _log.warning("an object cannot be read", kind=self._kind.__name__, error=str(error)[:200])
            return None
