"""What would be decided now, without writing anything: the planner on an image of this process's own."""

import asyncio
from dataclasses import dataclass, field

from msgspec import Struct

from federation.domain.records import Cycle, Decision, Verdict
from federation.domain.workload import Workload, WorkloadSpec
from federation.planner.cycle import plan_workloads
from federation.planner.explain import merge
from federation.planner.plan import PLANNER, Plan, Request
from federation.ports import Clock, Compute, Ids, Store
from federation.services.committing import decision_of
from federation.services.image import Image


class Foresight(Struct, frozen=True, kw_only=True):
    """A decision that nobody committed, with what it says of each cluster."""

    decision: Decision
    verdicts: tuple[Verdict, ...]


@dataclass(slots=True)
class Foreseer:
    """Keeps an image; one question at a time, since planning and refreshing must not meet."""

    store: Store
    clock: Clock
    ids: Ids
    compute: Compute
    image: Image
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def foresee(self, spec: WorkloadSpec) -> Foresight:
        """Plan *spec* as if it were asked for now."""
        workload, now_ms = Workload(id=self.ids.new(), spec=spec), self.clock.now_ms()
        cycle = Cycle(id="", at_ms=now_ms, seed=now_ms % 2**31, planner=PLANNER, offsets={}, revisions={})
        async with self._turn:
            async with self.store.reader() as reader:
                await self.image.refresh(reader)
            self.image.take_touched()
            plan: Plan = await self.compute(_planned, self.image, Request(workload=workload), cycle)
        (outcome,) = plan.outcomes
        decision = decision_of(workload, (), outcome, ("", cycle))
        explanation = next(each for each in plan.explanations if each.id == outcome.explanation)
        return Foresight(decision=decision, verdicts=tuple(merge(decision, explanation)))


def _planned(image: Image, request: Request, cycle: Cycle) -> Plan:
    return plan_workloads(image.pool, [request], now_ms=cycle.at_ms, seed=cycle.seed, cycle=cycle.id)
