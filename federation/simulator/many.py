"""Many seeds over the cores of this machine, each in a process whose hashes are the same every time."""

import os
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from federation.simulator.run import Result, play
from federation.simulator.scenario import SCENARIOS, load

Seed = tuple[str, int]


def seeds_of(scenario: str, first: int, count: int) -> list[Seed]:
    """*count* seeds from *first* on, of one scenario or, where none is named, of all in turn."""
    names = [scenario] if scenario else sorted(each.stem for each in SCENARIOS.glob("*.yaml"))
    return [(names[seed % len(names)], seed) for seed in range(first, first + count)]


def play_many(
    seeds: Sequence[Seed], *, workers: int = 0, traced: bool = False, prepare: Callable[[], None] | None = None
) -> Generator[Result, None, None]:
    """The results in the order of *seeds*; *prepare* runs first in each process."""
    # Sets of texts must not come in another order in the next process.
    before, os.environ["PYTHONHASHSEED"] = os.environ.get("PYTHONHASHSEED"), "0"
    try:
        workers = min(len(seeds), workers or os.cpu_count() or 1)
        with ProcessPoolExecutor(workers, get_context("spawn"), initializer=prepare) as pool:
            yield from pool.map(_play, seeds, [traced] * len(seeds))
    finally:
        os.environ.pop("PYTHONHASHSEED") if before is None else os.environ.update(PYTHONHASHSEED=before)


def _play(seed: Seed, traced: bool) -> Result:
    name, number = seed
    return play(load(name), number, traced=traced)
