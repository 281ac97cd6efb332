"""Answers that may be a moment old: made once for all who ask within that moment, and bounded in number."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from federation.api.parts import ApiSettings

_MOST: Final = 4096
Key = tuple[str | None, ...]


class Recent:
    """Keeps what was made for *seconds*. Who asks while it is being made waits for the same."""

    def __init__(self, settings: ApiSettings) -> None:
        self._seconds = settings.cache_seconds
        self._kept: dict[Key, tuple[float, Any]] = {}
        self._making: dict[Key, asyncio.Task[Any]] = {}

    def peek(self, key: Key) -> Any:
        """What is kept and young enough, or None: the way that costs nothing."""
        kept = self._kept.get(key)
        return kept[1] if kept is not None and kept[0] > asyncio.get_running_loop().time() else None

    async def get(self, key: Key, make: Callable[[], Awaitable[Any]]) -> Any:
        """What is kept, else what *make* gives."""
        kept = self.peek(key)
        if kept is not None:
            return kept
        making = self._making.get(key)
        if making is None:
            making = asyncio.ensure_future(self._made(key, make))
            self._making[key] = making
        # One client that goes away must not take the answer from the others.
        return await asyncio.shield(making)

    def clear(self) -> None:
        """Forget all, also what is being made: something was written."""
        self._kept.clear()
        self._making.clear()

    async def _made(self, key: Key, make: Callable[[], Awaitable[Any]]) -> Any:
        me = asyncio.current_task()
        # Its age counts from before it is read.
        until = asyncio.get_running_loop().time() + self._seconds
        try:
            value = await make()
            if self._making.get(key) is me:
                self._keep(key, until, value)
            return value
        finally:
            if self._making.get(key) is me:
                del self._making[key]

    def _keep(self, key: Key, until: float, value: Any) -> None:
        if len(self._kept) >= _MOST:
            self._kept.clear()
        self._kept[key] = (until, value)
