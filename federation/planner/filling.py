"""Which nodes of one cluster take so many pods: those that are left fullest come first, then by name.

A node is judged by one number, its *key*: how many more it takes, less one, so that the smallest key is the tightest
node that takes any. Nodes that would waste what others need (devices, a place that few may use) come after all others.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint32]

NONE: Final = np.uint32(2**32 - 1)
WASTEFUL: Final = np.uint32(2**30)
MOST_FITS: Final = 2**30 - 2
_FITS: Final = np.uint32(2**30 - 1)


def keys_of(fits: NDArray[np.int64], wasteful: NDArray[np.bool_]) -> Keys:
    """The keys of nodes that take *fits* more."""
    keys = (np.minimum(fits, MOST_FITS) - 1).astype(np.uint32)
    keys[wasteful & (fits > 0)] += WASTEFUL
    return keys


def fits_of(keys: Keys) -> NDArray[np.int64]:
    """How many more each node takes."""
    return ((keys + np.uint32(1)) & _FITS).astype(np.int64)


def fill(keys: Keys, count: int) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """Offsets and how many each takes, for as many of *count* as fit."""
    first = int(keys.argmin()) if len(keys) else 0
    if len(keys) and keys[first] != NONE and (int(keys[first]) + 1 & int(_FITS)) >= count:
        return np.array([first], np.intp), np.array([count], np.int64)
    able = np.flatnonzero(keys != NONE)
    order = able[np.argsort(keys[able], kind="stable")]
    fits = fits_of(keys[order])
    total = np.cumsum(fits)
    used = int(np.searchsorted(total, count)) + 1
    fits = fits[:used]
    if len(fits) and total[used - 1 if used <= len(total) else -1] > count:
        fits[-1] -= total[used - 1] - count
    return order[:used], fits
