"""Time in a simulated cluster: one ordered queue of who looks at what next, moved by `step` alone."""

import heapq


class Timeline:
    """What the parts of a cluster will do, and when. A part that is held does nothing until it is released."""

    def __init__(self) -> None:
        self.now_ms = 0
        self.lag: dict[str, int] = {}
        self._queue: list[tuple[int, int, str, str]] = []
        self._queued: dict[tuple[str, str], int] = {}
        self._count = 0
        self._held: dict[str, set[str]] = {}

    def work(self, part: str, key: str) -> None:
        """*part* looks at *key*, now."""
        raise NotImplementedError

    def step(self, now_ms: int) -> None:
        """Do all that is due by *now_ms*, in order of time. Time never goes back here, whatever the clock does."""
        while self._queue and self._queue[0][0] <= now_ms:
            due, _, part, key = heapq.heappop(self._queue)
            if self._queued.get((part, key)) != due:
                continue
            del self._queued[part, key]
            self.now_ms = max(self.now_ms, due)
            if part in self._held:
                self._held[part].add(key)
            else:
                self.work(part, key)
        self.now_ms = max(self.now_ms, now_ms)

    def next_due_ms(self) -> int | None:
        """When something will happen by itself; None: nothing will."""
        return self._queue[0][0] if self._queue else None

    def after(self, part: str, key: str, delay_ms: int) -> None:
        """*part* looks at *key* after a delay (and its lag), or earlier if that was planned already."""
        due = self.now_ms + max(1, delay_ms + self.lag.get(part, 0))
        planned = self._queued.get((part, key))
        if planned is None or due < planned:
            self._count += 1
            self._queued[part, key] = due
            heapq.heappush(self._queue, (due, self._count, part, key))

    def hold(self, part: str) -> None:
        """Stop *part* (`deployment`, `replicaset`, `scheduler`, ...) until it is released."""
        self._held.setdefault(part, set())

    def release(self, part: str) -> None:
        """Let *part* go on with what it missed."""
        for key in sorted(self._held.pop(part, ())):
            self.after(part, key, 0)
