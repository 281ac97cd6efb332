"""The Dockerfile, followed step by step without a container engine: each stage in a folder of its own."""

import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
DOCKERFILE: Final = ROOT / "Dockerfile"
# What a container has at its root, and this test has in the stage's folder.
OURS: Final = ("/venv", "/app", "/requirements.txt")
STEP_SECONDS: Final = 300
Instruction = tuple[str, str]


@dataclass(slots=True)
class Stage:
    """One stage: its folder stands for the root of its file system."""

    root: Path
    env: dict[str, str] = field(default_factory=dict)
    folder: str = "/"
    user: str = "root"
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)

    def path(self, text: str) -> Path:
        return self.root / text.lstrip("/")

    def run(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        """Run a command as it would be in the stage; `python` is the one that runs this."""
        mapped = [sys.executable if word == "python" else self._mapped(word) for word in words]
        env = {"PATH": "/usr/bin:/bin", "HOME": str(self.root)} | {k: self._mapped(v) for k, v in self.env.items()}
        return subprocess.run(
            mapped,
            cwd=self.path(self.folder),
            env=env,
            capture_output=True,
            text=True,
            timeout=STEP_SECONDS,
            check=False,
        )

    def _mapped(self, word: str) -> str:
        return str(self.path(word)) if word.startswith(OURS) else word


def instructions() -> list[Instruction]:
    text = DOCKERFILE.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines()]
    pairs = (line.partition(" ") for line in lines if line and not line.startswith("#"))
    return [(name, rest.strip()) for name, _, rest in pairs]


def sources() -> list[str]:
    """What COPY takes from the folder of the build."""
    copies = [rest for name, rest in instructions() if name == "COPY" and not rest.startswith("--from")]
    return [source for rest in copies for source in shlex.split(rest)[:-1]]


def follow(folder: Path) -> Stage:
    """Do what the Dockerfile says; the last stage."""
    stages: dict[str, Stage] = {}
    stage = Stage(folder)
    for name, rest in instructions():
        if name == "FROM":
            alias = rest.partition(" AS ")[2] or "last"
            stage = stages[alias] = Stage(folder / alias)
            stage.root.mkdir()
        else:
            STEPS[name](stage, rest, stages)
    return stage


def copy(stage: Stage, rest: str, stages: dict[str, Stage]) -> None:
    *words, target = shlex.split(rest)
    base = ROOT
    if words[0].startswith("--from="):
        base, words = stages[words[0].removeprefix("--from=")].root, words[1:]
    for word in words:
        source, into = base / word.lstrip("/"), stage.path(target)
        if source.is_dir():
            shutil.copytree(source, into, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
            continue
        into = into / source.name if target.endswith("/") else into
        into.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, into)


def run(stage: Stage, rest: str, _stages: dict[str, Stage]) -> None:
    result = stage.run(shlex.split(rest))
    assert result.returncode == 0, f"RUN {rest}: {result.stdout}{result.stderr}"


def env(stage: Stage, rest: str, _stages: dict[str, Stage]) -> None:
    stage.env.update(pair.split("=", 1) for pair in shlex.split(rest))


def workdir(stage: Stage, rest: str, _stages: dict[str, Stage]) -> None:
    stage.folder = rest
    stage.path(rest).mkdir(parents=True, exist_ok=True)


def user(stage: Stage, rest: str, _stages: dict[str, Stage]) -> None:
    stage.user = rest


def entrypoint(stage: Stage, rest: str, _stages: dict[str, Stage]) -> None:
    stage.entrypoint = shlex.split(rest.strip("[]").replace(",", " "))


def command(stage: Stage, rest: str, _stages: dict[str, Stage]) -> None:
    stage.command = shlex.split(rest.strip("[]").replace(",", " "))


def nothing(_stage: Stage, _rest: str, _stages: dict[str, Stage]) -> None:
    """What has no effect outside an engine."""


STEPS: Final = {
    "ARG": nothing,
    "EXPOSE": nothing,
    "COPY": copy,
    "RUN": run,
    "ENV": env,
    "WORKDIR": workdir,
    "USER": user,
    "ENTRYPOINT": entrypoint,
    "CMD": command,
}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_what_it_builds_shows_its_help_and_makes_its_schema(tmp_path: Path):
    image = follow(tmp_path)

    shown = image.run([*image.entrypoint, *image.command])
    image.env["FEDERATION_DATABASE_URL"] = f"sqlite:///{tmp_path / 'made.db'}"
    migrated = image.run([*image.entrypoint, "migrate"])
    version = image.run([*image.entrypoint, "--version"])

    assert (shown.returncode, shown.stderr) == (0, "")
    assert all(role in shown.stdout for role in ("serve", "work", "agent", "migrate"))
    assert (migrated.returncode, migrated.stdout) == (0, "the schema is current\n"), migrated.stderr
    assert re.fullmatch(r"federation [0-9]+\.[0-9]+\.[0-9]+\n", version.stdout)
    assert image.user.split(":")[0].isdecimal()
    assert image.user.split(":")[0] != "0"


def test_what_is_copied_is_not_ignored():
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()

    assert ignored[0] == "*"
    assert {f"!{source}" for source in sources()} <= set(ignored)
    assert {line for line in ignored if line.startswith("!")} <= {f"!{source}" for source in sources()}


def test_the_base_is_pinned_and_packages_come_with_their_hashes():
    found = instructions()
    (base,) = [rest.partition("=")[2] for name, rest in found if name == "ARG"]
    installs = [rest for name, rest in found if name == "RUN" and "pip install" in rest]

    assert re.match(r"[0-9]+\.[0-9]+", base)
    assert all("${PYTHON}" in rest for name, rest in found if name == "FROM")
    assert all("--require-hashes" in rest for rest in installs)
    assert not any("index" in rest for rest in installs)
