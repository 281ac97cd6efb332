"""The build of the test bed takes what is there, keeps what it made, and says why a part cannot be had."""

from pathlib import Path

import pytest

from tests.testbed import build
from tests.testbed.build import GO_PROGRAMS, Unavailable, cache_folder, ensure_kafka, ensure_kubernetes


def quiet(line: str) -> None:
    """Say nothing."""


def make_program(path: Path, script: str = "exit 0") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.fixture(autouse=True)
def _machine_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache, and a path on which there is only what a test puts there."""
    monkeypatch.setenv("FEDERATION_TESTBED_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/bin")
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    monkeypatch.setattr(build, "TRIES", 1)


def test_programs_of_kubebuilder_assets_are_taken_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in GO_PROGRAMS:
        make_program(tmp_path / "assets" / name)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path / "assets"))

    programs = ensure_kubernetes(quiet)

    assert programs.etcd == tmp_path / "assets" / "etcd"
    assert programs.kwok == tmp_path / "assets" / "kwok"
    assert not cache_folder().exists()


def test_what_was_fetched_once_is_kept_and_nothing_half_made_is(tmp_path: Path) -> None:
    make_program(tmp_path / "bin" / "java")
    runs = tmp_path / "runs"
    folder = 'for word; do case $word in -DoutputDirectory=*) touch "${word#*=}/a.jar";; esac; done'
    make_program(tmp_path / "bin" / "mvn", f"echo run >> {runs}; {folder}; [ -e {tmp_path}/works ]")

    with pytest.raises(Unavailable, match="mvn failed 1 times"):
        ensure_kafka(quiet)
    (tmp_path / "works").touch()
    first, second = ensure_kafka(quiet), ensure_kafka(quiet)

    assert first == second
    assert [path.name for path in first.jars.iterdir()] == ["a.jar"]
    assert runs.read_text().splitlines() == ["run", "run"]
    assert sorted(path.name for path in cache_folder().iterdir()) == ["build.lock", first.jars.name]


def test_a_part_whose_tools_are_missing_is_unavailable_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")

    with pytest.raises(Unavailable, match="default-jre-headless is not installed") as raised:
        ensure_kafka(quiet)

    assert raised.value.part == "kafka"


def test_the_cache_is_outside_the_tree_unless_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FEDERATION_TESTBED_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")

    assert cache_folder() == Path("/somewhere/federation-testbed")
