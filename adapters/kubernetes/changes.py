"""All watches of a cluster as one stream of changes, through a queue that holds the watches back when it is full."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing
from typing import Any, Final

from adapters.kubernetes.board import KEEPERS, SCALERS, Board
from adapters.kubernetes.client import ApiServer
from adapters.kubernetes.convert import node_of, pod_of
from adapters.kubernetes.kinds import AUTOSCALERS, CARRIED, NODES, PODS, REPLICA_SETS, group_path
from adapters.kubernetes.listing import Resource
from adapters.kubernetes.objects import Controller, HorizontalPodAutoscaler, Node, Pod, Read, ReplicaSet
from adapters.kubernetes.watch import DELETED, Batch, Pace, Reflector
from federation.domain.member import (
    PLACEMENT_LABEL,
    Change,
    Listed,
    NodeChanged,
    NodeDeleted,
    PodChanged,
    PodDeleted,
    Relisted,
    WatchBack,
    WatchLost,
)

Fold = Callable[[Batch[Any]], list[Change]]
_MOST_QUEUED: Final = 16
_MOST_TOGETHER: Final = 500


def collection(api: str) -> str:
    """Where all objects of a carried kind are listed."""
    return f"{group_path(api)}/{CARRIED[api]}"


class Changes:
    """One subscription: `told` may be read once."""

    def __init__(self, api: ApiServer, pace: Pace) -> None:
        self._api = api
        self._pace = pace
        self._board = Board()
        self._in_turn = asyncio.Lock()
        self._queue: asyncio.Queue[list[Change]] = asyncio.Queue(_MOST_QUEUED)
        self._runner: asyncio.Task[None] | None = None

    async def told(self) -> AsyncGenerator[Sequence[Change], None]:
        """Batches until `close`."""
        runner = self._runner = asyncio.create_task(self._run())
        try:
            while True:
                batch = await self._next(runner)
                if batch is None:
                    return
                yield batch
        finally:
            runner.cancel()
            await asyncio.wait([runner])

    async def _next(self, runner: "asyncio.Task[None]") -> list[Change] | None:
        """The next batch; None once the watches have been ended. What made them fail is raised."""
        getter = asyncio.create_task(self._queue.get())
        try:
            await asyncio.wait([getter, runner], return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not getter.done():
                getter.cancel()
        if getter.done() and not getter.cancelled():
            return getter.result()
        if not runner.cancelled() and (error := runner.exception()) is not None:
            raise error
        return None

    def close(self) -> None:
        """End the watches."""
        if self._runner is not None:
            self._runner.cancel()

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for resource, fold in self._sources():
                group.create_task(self._pump(resource, fold))

    def _sources(self) -> Iterator[tuple[Resource[Any], Fold]]:
        yield Resource(path=NODES, kind=Node), _fold_nodes
        yield Resource(path=PODS, kind=Pod), _fold_pods
        for api in CARRIED:
            yield self._placed(api, Resource(path=collection(api), kind=Controller, selector=PLACEMENT_LABEL))
        yield self._placed(KEEPERS, Resource(path=REPLICA_SETS, kind=ReplicaSet, selector=PLACEMENT_LABEL))
        yield self._placed(SCALERS, Resource(path=AUTOSCALERS, kind=HorizontalPodAutoscaler, optional=True))

    def _placed(self, source: str, resource: Resource[Any]) -> tuple[Resource[Any], Fold]:
        def fold(batch: Batch[Read]) -> list[Change]:
            return self._board.fold(source, batch)

        return resource, fold

    async def _pump(self, resource: Resource[Any], fold: Fold) -> None:
        async with aclosing(Reflector(self._api, resource, self._pace).follow()) as batches:
            async for batch in batches:
                # Several sources fold into the board: what came first must be told first.
                async with self._in_turn:
                    changes = [*_sight(resource.path, batch), *fold(batch)]
                    for start in range(0, len(changes), _MOST_TOGETHER):
                        await self._queue.put(changes[start : start + _MOST_TOGETHER])
                # A queue with room does not wait, and a large listing would hold up everything else.
                await asyncio.sleep(0)


def _sight(source: str, batch: Batch[Any]) -> list[Change]:
    if batch.sees is None:
        return []
    return [WatchBack(source) if batch.sees else WatchLost(source)]


def _fold_nodes(batch: Batch[Node]) -> list[Change]:
    changes: list[Change] = [Relisted("nodes")] if batch.begins else []
    for kind, read in batch.told:
        changes.append(NodeDeleted(read.metadata.name) if kind == DELETED else NodeChanged(node_of(read)))
    return [*changes, Listed("nodes")] if batch.complete else changes


def _fold_pods(batch: Batch[Pod]) -> list[Change]:
    changes: list[Change] = [Relisted("pods")] if batch.begins else []
    for kind, read in batch.told:
        changes.append(PodDeleted(read.metadata.uid) if kind == DELETED else PodChanged(pod_of(read)))
    return [*changes, Listed("pods")] if batch.complete else changes
