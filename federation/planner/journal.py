"""What changed since one last looked: numbers in the order in which they were noted, as far back as they are kept."""

import numpy as np
from numpy.typing import NDArray

Slots = NDArray[np.intp]


class Journal:
    """*end* counts all that ever were noted."""

    def __init__(self) -> None:
        self._buffer: Slots = np.empty(1024, np.intp)
        self._length = 0
        self._dropped = 0

    @property
    def end(self) -> int:
        return self._dropped + self._length

    def note(self, slots: Slots | int, count: int = 1) -> None:
        end = self._length + count
        if end > len(self._buffer):
            self._buffer = np.concatenate((self._buffer[: self._length], np.empty(max(end, 1024), np.intp)))
        self._buffer[self._length : end] = slots
        self._length = end

    def since(self, position: int) -> Slots | None:
        """What was noted from *position* on; None where that is no longer known."""
        if position < self._dropped:
            return None
        return self._buffer[position - self._dropped : self._length]

    def trim(self, most: int) -> None:
        """Forget everything once there is more than *most*."""
        if self._length > most:
            self._dropped += self._length
            self._length = 0
