"""Protocol section 3 as a game: hub, log, agent and a member whose controllers lag, move by move, at random.

The member is that of the model of the protocol, made small; the hub is the real one: events go through the fold, claims
are those of `Placement`, and a commit is refused where it would leave an excess. After every move:

I1  what a placement may still come to have is within its claim;
P1  what all placements may still come to have is within the capacity.

The net is tested too: with one rule taken out, some walk must fall through.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from msgspec.structs import replace

from federation.domain.cluster import Cluster
from federation.domain.events import Event, Stamp
from federation.domain.folding import ClusterFold, with_change
from federation.domain.placement import Ask, AskKind, Placement
from tests.domain.builders_core import CPU, NOW, Teller, World, node, seen

NAMES = ("p", "q")
ASKS = (1, 2, 3)
WALKS, STEPS = 400, 90
Move = tuple[str, Callable[[], None]]


class Broken(AssertionError):
    """A promise was broken; the text is the walk that broke it."""


@dataclass
class Obj:
    """What the API server holds of a placement: a Deployment."""

    version: int
    replicas: int
    observed: bool = False
    deleting: bool = False


@dataclass
class Pods:
    """A placement in the member. *spec* is the ReplicaSet's, *goal* what its controller is working towards."""

    nodes: int
    obj: Obj | None = None
    spec: int = 0
    goal: int = 0
    unbound: int = 0
    bound: list[int] = field(default_factory=list)
    dying: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.bound, self.dying = [0] * self.nodes, [0] * self.nodes

    @property
    def live(self) -> int:
        return self.unbound + sum(self.bound)

    @property
    def present(self) -> bool:
        return bool(self.obj) or bool(self.live + sum(self.dying) + self.spec + self.goal)


@dataclass
class Order:
    """An order on the wire; *number* is its place in the list of orders sent."""

    placement: str
    ask: Ask


@dataclass
class Rules:
    """Rules of the agent's part that may be taken out."""

    both_controllers: bool = True
    done_before_reading: bool = True


class Game:
    """One member cluster, its agent, the log between them, and the hub."""

    def __init__(self, seed: int, rules: Rules, *, capacities: tuple[int, ...] = (2, 1), crashes: int = 1) -> None:
        self.rng, self.rules, self.capacities, self.crashes = random.Random(seed), rules, capacities, crashes
        self.member = {name: Pods(len(capacities)) for name in NAMES}
        self.world = World(ClusterFold(Cluster(name="east")))
        self.agent, self.log = Teller(), list[tuple[Event, Stamp]]()
        self.orders: list[Order] = []
        self.done = self.stored = 0
        self.trace: list[str] = []
        self.log += self._resync()
        while self.log:
            self._ingest()

    # --- the walk ------------------------------------------------------------------------------------------------

    def walk(self, steps: int) -> None:
        for _ in range(steps):
            moves = list(self.moves())
            name, move = self.rng.choice(moves)
            self.trace.append(name)
            move()
            self.check()

    def check(self) -> None:
        may_have = {name: self.may_have(name) for name in NAMES}
        for name, most in may_have.items():
            claim = self.claim(name)
            if most > claim:
                raise Broken(f"I1: {name} may have {most}, claims {claim}\n" + "\n".join(self.trace))
        if sum(may_have.values()) > sum(self.capacities):
            raise Broken(f"P1: {may_have} of {self.capacities}\n" + "\n".join(self.trace))

    def claim(self, name: str) -> int:
        placement = self.world.view.placements.get(name)
        return placement.claim if placement else 0

    def may_have(self, name: str) -> int:
        pods = self.member[name]
        most = max(pods.live, pods.goal)
        if pods.obj and not pods.obj.deleting:
            most = max(most, pods.obj.replicas, pods.spec)
        for order in self.orders[self.stored :]:
            stands = pods.obj is not None and not pods.obj.deleting and pods.obj.version >= order.ask.version
            if order.placement == name and order.ask.kind is AskKind.WANTED and not stands:
                most = max(most, order.ask.replicas)
        return most

    # --- moves ---------------------------------------------------------------------------------------------------

    def moves(self) -> Iterator[Move]:
        yield from self._hub_moves()
        if self.log:
            yield "hub folds", self._ingest
        yield from self._agent_moves()
        for name, pods in self.member.items():
            yield from self._controller_moves(name, pods)
            yield from self._pod_moves(name, pods)

    def _hub_moves(self) -> Iterator[Move]:
        for name in NAMES:
            placement = self.world.view.placements.get(name)
            if placement is not None and (placement.version >= 4 or (placement.released and placement.asks)):
                continue
            for replicas in ASKS:
                yield f"hub asks {replicas} of {name}", lambda n=name, r=replicas: self._ask(n, r, AskKind.WANTED)
            if placement is not None and not placement.ended:
                yield f"hub ends {name}", lambda n=name: self._ask(n, 0, AskKind.GONE)
                if placement.bound < placement.wanted and not placement.floor_is_open:
                    floor = placement.bound
                    yield f"hub withdraws {name}", lambda n=name, f=floor: self._ask(n, f, AskKind.FLOOR)

    def _ask(self, name: str, replicas: int, kind: AskKind) -> None:
        """A commit, and the dispatch of its order at once: numbers count up with the list."""
        before = self.world.view.placements.get(name)
        blank = Placement(id=name, workload="w", team="default", cluster="east")
        old = before if before is not None and not before.released else None
        start = old or replace(blank, version=before.version if before else 0)
        ask = Ask(start.version + 1, replicas, kind, 0, 0, "1", CPU)
        after = start.asking(ask).holding({}, NOW, start.held)
        cluster = self.world.cluster
        held = with_change(cluster.held, old.held_amounts() if old else {}, after.held_amounts())
        if after.raises(old) and replace(cluster, held=held).excess():
            self.trace.append("   … refused")
            return
        self.orders.append(Order(name, ask))
        self.world.view.placements.setdefault(name, blank)
        self.world.view.put_placement(after.numbered(ask.version, len(self.orders), NOW))

    def _ingest(self) -> None:
        self.world.hear([self.log.pop(0)])

    def _agent_moves(self) -> Iterator[Move]:
        if len(self.log) < 3:
            for index in range(len(self.capacities)):
                yield f"agent tells node {index}", lambda i=index: self._tell(self._node(i))
            for name in NAMES:
                yield f"agent tells {name}", lambda n=name: self._tell(self._seen(n))
        if self.done == self.stored and self.done < len(self.orders) and self._may_begin(self.orders[self.done]):
            yield f"agent does order {self.done + 1}", self._execute
        if self.done > self.stored:
            yield f"agent stores {self.done}", self._store
        if self.crashes:
            yield "agent crashes", self._crash

    def _tell(self, event: Event) -> None:
        self.log.append(self.agent.tell(event))

    def _node(self, index: int) -> Event:
        used = sum(pods.bound[index] + pods.dying[index] for pods in self.member.values())
        bound = {name: pods.bound[index] for name, pods in self.member.items() if pods.bound[index]}
        return node(f"n-{index}", cores=self.capacities[index], used=used, bound=bound)

    def _seen(self, name: str) -> Event:
        pods = self.member[name]
        stands = pods.obj is not None and not pods.obj.deleting
        followed = pods.goal == pods.spec or not self.rules.both_controllers
        done = self.stored if self.rules.done_before_reading else len(self.orders)
        return seen(
            name,
            done=done,
            version=pods.obj.version if pods.obj else 0,
            observed=stands and pods.obj is not None and pods.obj.observed and followed,
            desired=pods.obj.replicas if stands and pods.obj else 0,
            live=pods.live,
            bound=sum(pods.bound),
            updated=sum(pods.bound),
            gone=not pods.present,
        )

    def _resync(self) -> list[tuple[Event, Stamp]]:
        told = [self._node(index) for index in range(len(self.capacities))]
        told += [self._seen(name) for name in NAMES if self.member[name].present]
        return self.agent.resync(*told, done=self.stored)

    def _may_begin(self, order: Order) -> bool:
        obj = self.member[order.placement].obj
        return order.ask.kind is AskKind.GONE or obj is None or not obj.deleting

    def _execute(self) -> None:
        order = self.orders[self.done]
        pods, ask = self.member[order.placement], order.ask
        stands = pods.obj is not None and pods.obj.version >= ask.version
        match ask.kind:
            case AskKind.GONE if pods.obj and not pods.obj.version > ask.version:
                pods.obj.deleting = True
            case AskKind.WANTED if not stands:
                pods.obj = Obj(ask.version, ask.replicas)
            case AskKind.FLOOR if pods.obj and not stands:
                floor = max(ask.replicas, sum(pods.bound))
                pods.obj = Obj(ask.version, min(pods.obj.replicas, floor))
        self.done += 1

    def _store(self) -> None:
        self.stored = self.done

    def _crash(self) -> None:
        self.crashes -= 1
        self.done = self.stored
        self.agent = Teller(epoch=self.agent.epoch + 1)
        self.log += self._resync()

    def _controller_moves(self, name: str, pods: Pods) -> Iterator[Move]:
        obj = pods.obj
        if obj and not obj.deleting and not obj.observed:
            yield f"deployment controller sees {name}", lambda: _observe(pods)
        if (obj is None or obj.deleting) and pods.spec:
            yield f"garbage collector takes {name}", lambda: setattr(pods, "spec", 0)
        if pods.goal != pods.spec:
            yield f"replicaset controller sees {name}", lambda: setattr(pods, "goal", pods.spec)
        if obj and obj.deleting and not (pods.live or sum(pods.dying) or pods.goal or pods.spec):
            yield f"object of {name} goes", lambda: setattr(pods, "obj", None)

    def _pod_moves(self, name: str, pods: Pods) -> Iterator[Move]:
        if pods.live < pods.goal:
            yield f"pod of {name} is made", lambda: setattr(pods, "unbound", pods.unbound + 1)
        if pods.live > pods.goal and pods.unbound:
            yield f"unbound pod of {name} goes", lambda: setattr(pods, "unbound", pods.unbound - 1)
        for index, capacity in enumerate(self.capacities):
            taken = sum(each.bound[index] + each.dying[index] for each in self.member.values())
            if pods.unbound and taken < capacity:
                yield f"pod of {name} binds to {index}", lambda i=index: _bind(pods, i)
            if pods.live > pods.goal and not pods.unbound and pods.bound[index]:
                yield f"pod of {name} on {index} ends", lambda i=index: _end(pods, i)
            if pods.dying[index]:
                yield f"pod of {name} on {index} is gone", lambda i=index: _bury(pods, i)


def _observe(pods: Pods) -> None:
    assert pods.obj is not None
    pods.obj.observed, pods.spec = True, pods.obj.replicas


def _bind(pods: Pods, index: int) -> None:
    pods.unbound -= 1
    pods.bound[index] += 1


def _end(pods: Pods, index: int) -> None:
    pods.bound[index] -= 1
    pods.dying[index] += 1


def _bury(pods: Pods, index: int) -> None:
    pods.dying[index] -= 1


def play(rules: Rules | None = None, *, walks: int = WALKS, crashes: int = 1, first: int = 0) -> None:
    """So many walks from the same beginning; raises Broken at the first that breaks a promise."""
    for seed in range(first, first + walks):
        Game(seed, rules or Rules(), crashes=crashes).walk(STEPS)


def falls(rules: Rules | None = None, *, crashes: int = 1, walks: int = 4_000) -> bool:
    """Whether some walk breaks a promise."""
    try:
        play(rules, walks=walks, crashes=crashes)
    except Broken:
        return True
    return False


@contextmanager
def without(monkeypatch: pytest.MonkeyPatch, name: str, rule: object) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setattr(Placement, name, rule)
        yield


def test_3_no_slot_is_promised_twice_whatever_lags_crashes_or_is_withdrawn():
    play()


def test_3_a_version_superseded_by_the_deployment_controller_alone_promises_a_slot_twice():
    assert falls(Rules(both_controllers=False))


def test_3_a_claim_given_back_by_a_reading_from_before_its_last_order_promises_a_slot_twice():
    assert falls(Rules(done_before_reading=False), crashes=0)


def test_3_a_claim_given_back_whenever_nothing_is_seen_promises_a_slot_twice(monkeypatch: pytest.MonkeyPatch):
    eager = lambda self, event: self.ended and event.gone  # noqa: E731

    with without(monkeypatch, "_gives_back", eager):
        assert falls()


def test_3_a_version_superseded_as_soon_as_it_is_received_promises_a_slot_twice(monkeypatch: pytest.MonkeyPatch):
    real = Placement._superseded

    with without(monkeypatch, "_superseded", lambda self, event: real(self, replace(event, observed=True))):
        assert falls()


def test_3_a_claim_that_forgets_live_pods_promises_a_slot_twice(monkeypatch: pytest.MonkeyPatch):
    real = Placement._superseded
    asked = property(lambda self: max((ask.replicas for ask in self.asks), default=0))

    monkeypatch.setattr(Placement, "_superseded", lambda self, event: real(self, replace(event, live=0)))
    with without(monkeypatch, "claim", asked):
        assert falls()


def test_3_an_ask_that_replaces_all_before_it_promises_a_slot_twice(monkeypatch: pytest.MonkeyPatch):
    def forgetful(self: Placement, ask: Ask) -> Placement:
        return replace(self, version=ask.version, asks=(ask,), ended=ask.kind is AskKind.GONE)

    with without(monkeypatch, "asking", forgetful):
        assert falls()


def test_2_3_commits_that_are_not_held_against_what_is_known_promise_a_slot_twice(monkeypatch: pytest.MonkeyPatch):
    with without(monkeypatch, "raises", lambda self, before: False):
        assert falls(walks=400)
