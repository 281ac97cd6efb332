"""What a simulation is made of: how large the world is, what callers do, and what goes wrong. One YAML file each."""

from pathlib import Path
from typing import Annotated, Final

import msgspec
import yaml
from msgspec import Meta, Struct

from federation.domain.errors import Invalid

SCENARIOS: Final = Path(__file__).parent / "scenarios"
Whole = Annotated[int, Meta(ge=0, le=10_000)]
Weights = dict[str, Whole]
Span = tuple[Whole, Whole]


class Scenario(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab"):
    """Spans are drawn from once a seed, weights once a step. *racers*: every scheduler believes that it leads.

    *plan_milliseconds* is the longest that planning takes. *settle_seconds* bounds how long the world may take to come to rest once nothing goes wrong any more.
    """

    name: str
    steps: Annotated[int, Meta(ge=200, le=100_000)] = 200
    step_milliseconds: Span = (10, 250)
    plan_milliseconds: Whole = 50
    members: Span = (2, 3)
    nodes: Span = (2, 4)
    cores: Span = (4, 8)
    hubs: Annotated[int, Meta(ge=1, le=8)] = 2
    racers: bool = False
    workloads: Whole = 12
    replicas: Span = (1, 8)
    cpu_milli: Span = (250, 1500)
    callers: Weights
    kinds: Weights
    faults: Weights = {}
    fault_count: Span = (3, 6)
    settle_seconds: Whole = 300


def load(name: str) -> Scenario:
    """The scenario of that name, or in that file."""
    path = Path(name) if name.endswith((".yaml", ".yml")) else SCENARIOS / f"{name}.yaml"
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        return msgspec.convert({"name": name, **content}, Scenario, strict=True)
    except FileNotFoundError:
        known = ", ".join(sorted(each.stem for each in SCENARIOS.glob("*.yaml")))
        raise Invalid(f"no scenario {name!r}; there are {known}, or a file that ends in .yaml") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError, msgspec.ValidationError, TypeError) as error:
        raise Invalid(f"scenario {name!r} cannot be read: {error}") from error
