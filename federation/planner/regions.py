"""The reference's choice of regions, kept value for value so that teams who move over see the same answer.

It searches all combinations, so its cost grows with them; `spread.select` is the exact choice for any field.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

MAX_COMBINATIONS: Final = 100_000


@dataclass(frozen=True, slots=True)
class Region:
    name: str
    clusters: int
    score: int


@dataclass(frozen=True, slots=True)
class _Search:
    regions: Sequence[Region]
    min_regions: int
    max_regions: int
    min_clusters: int
    clusters_from: Sequence[int]

    def found(self, chosen: tuple[Region, ...], begin: int) -> Iterator[tuple[Region, ...]]:
        """Combinations in order of discovery; one that is enough is not extended."""
        clusters = sum(region.clusters for region in chosen)
        if clusters >= self.min_clusters and self.min_regions <= len(chosen) <= self.max_regions:
            yield chosen
        elif len(chosen) < self.max_regions:
            for at in range(begin, len(self.regions)):
                if clusters + self.clusters_from[at] < self.min_clusters:
                    return
                yield from self.found((*chosen, self.regions[at]), at + 1)


def select_regions(
    regions: Sequence[Region], min_regions: int, max_regions: int, min_clusters: int
) -> list[str] | None:
    """Names by score descending; None where no combination is enough."""
    if not regions or len(regions) < min_regions:
        return None
    ordered = sorted(regions, key=lambda region: (region.clusters, -region.score, region.name))
    clusters_from = [sum(region.clusters for region in ordered[at:]) for at in range(len(ordered))]
    search = _Search(ordered, min_regions, max_regions, min_clusters, clusters_from)
    found = list(islice(search.found((), 0), MAX_COMBINATIONS + 1))
    if len(found) > MAX_COMBINATIONS:
        raise ValueError(f"more than {MAX_COMBINATIONS} combinations of {len(regions)} regions")
    return [region.name for region in _best(found)] if found else None


def _best(found: Sequence[tuple[Region, ...]]) -> Sequence[Region]:
    """The highest score, then the most clusters; but what is a mere beginning of the choice is preferred to it."""
    paths = [sorted(path, key=lambda region: (-region.score, region.name)) for path in found]
    paths.sort(key=lambda path: (-sum(r.score for r in path), -sum(r.clusters for r in path)))
    best = paths[0]
    for path in paths[1:]:
        if len(path) < len(best) and best[: len(path)] == path:
            best = path
    return best
