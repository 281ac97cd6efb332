"""That the pages say what is: links, commands, settings, metrics, and the references made from the types."""

import re
import subprocess
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

import pytest
from prometheus_client import REGISTRY
from typer.main import get_command

import federation.api.app
import federation.services.metrics  # noqa: F401  the metrics of all roles
from docs.generate import PAGES
from federation.cli import app
from federation.config import PREFIX, Settings
from federation.domain.events import ACTION_TYPES, EVENT_TYPES
from federation.planner.filters import FILTERS

ROOT: Final = Path(__file__).parents[2]
MADE: Final = [ROOT / "docs" / name for name in PAGES]
BY_HAND: Final = sorted({*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")} - set(MADE))
ALL: Final = [*BY_HAND, *MADE]
OPERATING: Final = ROOT / "docs" / "operating.md"
# What the command line reads beside the settings of the roles.
OF_CLIENTS: Final = {PREFIX + name for name in ("SERVER", "TOKEN", "TEAM", "CONFIG")}
# Put together, so that this file does not hold what it looks for.
FORBIDDEN: Final = [
    re.compile(pattern)
    for pattern in (
        "pypi" + r"\.org",
        "files\\." + "pythonhosted",
        "(docker|ghcr|quay)" + r"\.io\b",
        "registry" + r"\.npmjs|registry\.k8s",
        "/work" + "/",
        "/home" + "/[a-z]",
        "/root" + "/",
        "nex" + "us|artif" + "actory",
    )
]


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def prose_of(page: Path) -> str:
    """The page without its blocks of code."""
    return re.sub(r"^```.*?^```", "", text_of(page), flags=re.DOTALL | re.MULTILINE)


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


# --- links -----------------------------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """The headings of a page as links name them."""
    headings = re.findall(r"^#+ (.+)$", prose_of(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", ALL, ids=shown)
def test_links_lead_somewhere(page: Path):
    for target in re.findall(r"\]\(([^)]+)\)", re.sub(r"`[^`]*`", "", prose_of(page))):
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        linked = (page.parent / name).resolve() if name else page

        assert linked.exists(), f"{target} is not there"
        assert not anchor or anchor in anchors(linked), f"{target} has no such heading"


@pytest.mark.parametrize("page", ALL, ids=shown)
def test_files_that_are_named_exist(page: Path):
    for name in re.findall(r"`((?:federation|adapters|deploy|docs|tests|migrations)/[\w./-]+)`", prose_of(page)):
        assert (ROOT / name).exists(), f"{name} is not there"


def test_modules_and_names_that_the_architecture_tells_of_exist():
    page = text_of(ROOT / "ARCHITECTURE.md")

    for function, module in re.findall(r"`([\w.]+)` \(`([\w/]+\.py)`\)", page):
        source = next((each for each in (ROOT / module, ROOT / "federation" / module) if each.exists()), None)
        assert source is not None, f"{module} is not there"
        name = function.rpartition(".")[2]
        assert re.search(rf"(def|class) {name}\b", text_of(source)), f"{module} has no {name}"


# --- commands --------------------------------------------------------------------------------------------------------


def command_lines() -> Iterator[tuple[str, str]]:
    """(page, command line) of every `federation …` in the pages."""
    for page in BY_HAND:
        text = text_of(page)
        typed = re.findall(r"^\$ (?:\.venv/bin/)?federation (.+)$", text, flags=re.MULTILINE)
        typed += re.findall(r"^  \.venv/bin/federation (.+)$", text, flags=re.MULTILINE)
        mentioned = re.findall(r"`federation ([^`]+)`", text)
        yield from ((shown(page), line) for line in [*typed, *mentioned])


@pytest.mark.parametrize(("page", "line"), list(command_lines()))
def test_a_command_in_the_pages_is_one_that_the_program_takes(page: str, line: str):
    words = line.split()
    program: Any = get_command(app)
    if words[0].startswith("-"):
        assert words[0] in {option for each in program.params for option in each.opts}
        return

    assert words[0] in program.commands
    if len(words) > 1:
        # Parses as the program does and runs nothing; a wrong option or a missing value raises.
        program.commands[words[0]].make_context(words[0], words[1:])


# --- settings, metrics, reasons --------------------------------------------------------------------------------------


def documented_settings() -> dict[str, str]:
    return dict(re.findall(r"^\| `(FEDERATION_[A-Z_]+)` \| (.+?) \|", text_of(OPERATING), flags=re.MULTILINE))


def test_every_setting_is_documented_with_its_default():
    found = documented_settings()

    for each in fields(Settings):
        told = found[PREFIX + each.name.upper()]
        default = f"{each.default:g}" if isinstance(each.default, float) else str(each.default)
        assert default == "" or told == f"`{default}`", f"{each.name} is {default}, told is {told}"
    assert len(found) == len(fields(Settings))


@pytest.mark.parametrize("page", ALL, ids=shown)
def test_every_setting_that_is_mentioned_exists(page: Path):
    known = {PREFIX + each.name.upper() for each in fields(Settings)} | OF_CLIENTS

    assert set(re.findall(r"\bFEDERATION_[A-Z_]*[A-Z]", text_of(page))) - known == set()


def test_every_metric_is_documented_and_every_documented_one_exists():
    documented = set(re.findall(r"^\| `(federation_[a-z_]+)` \|", text_of(OPERATING), flags=re.MULTILINE))
    collectors = {
        id(each): each for name, each in REGISTRY._names_to_collectors.items() if name.startswith("federation_")
    }
    told = {
        metric.name + "_total" * (metric.type == "counter") for each in collectors.values() for metric in each.collect()
    }

    assert documented == told


def test_every_filter_has_its_row_among_the_reasons():
    page = text_of(ROOT / "docs" / "explaining.md")
    rows = re.findall(r"^\| (.+?) \|", page.partition("## The reasons")[2], flags=re.MULTILINE)

    # A heading, a rule, and a row for each filter at least.
    assert len(rows) >= len(FILTERS) + 2


# --- the references --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PAGES)
def test_a_reference_is_what_comes_out_of_the_types(name: str):
    assert text_of(ROOT / "docs" / name) == PAGES[name](), "run `python -m docs.generate`"


def test_the_reference_tells_of_every_event_and_action():
    headings = re.findall(r"^### `(.+)`$", text_of(ROOT / "docs" / "events.md"), flags=re.MULTILINE)

    assert headings == [*EVENT_TYPES, *ACTION_TYPES]


# --- words -----------------------------------------------------------------------------------------------------------


def tracked() -> list[Path]:
    """Text that is in the tree."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=30
    )
    if listed.returncode != 0:
        pytest.skip("not a working copy of git")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_nothing_names_a_registry_or_a_place_on_some_machine():
    found = []
    for file in tracked():
        text = file.read_text(encoding="utf-8", errors="replace")
        found += [f"{shown(file)}: {match[0]}" for pattern in FORBIDDEN for match in pattern.finditer(text)]

    assert found == []
