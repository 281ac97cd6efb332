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
_ALL_FITS: Final = 2**30 - 1
_FITS: Final = np.uint32(_ALL_FITS)
_ONE: Final = np.uint32(1)


def keys_of(fits: NDArray[np.int64], waste: Keys | np.uint32) -> Keys:
    """The keys of nodes that take *fits* more; *waste* is WASTEFUL where it applies, else zero."""
    return (fits - 1).astype(np.uint32) | waste


def fits_of(keys: Keys) -> Keys:
    """How many more each node takes."""
    return (keys + _ONE) & _FITS


def fits_in(key: int) -> int:
    """How many more one node takes."""
    return (key + 1) & _ALL_FITS


def fill(keys: Keys, count: int) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """Offsets and how many each takes, for as many of *count* as fit."""
    able = np.flatnonzero(keys != NONE)
    order = able[np.argsort(keys[able], kind="stable")]
    fits = fits_of(keys[order]).astype(np.int64)
    total = np.cumsum(fits)
    used = int(np.searchsorted(total, count)) + 1
    fits = fits[:used]
    if used <= len(total):
        fits[-1] -= total[used - 1] - count
    return order[:used], fits
