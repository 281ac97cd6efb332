"""Fetches and builds the programs of the test bed, once, into a cache outside the tree: `python -m tests.testbed.build`.

Standard library only. Versions are pinned by the build files beside this one (`kafka/pom.xml`, `kubernetes/go.mod` and
`go.sum`); a change to one of them makes a new folder in the cache.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
KUBERNETES_VERSION: Final = "1.36.3"
KAFKA_VERSION: Final = "4.1.0"
TRIES: Final = 4
LOCK_TIMEOUT_SECONDS: Final = 1800

# The name of each program and the Go package that it is built from.
GO_PROGRAMS: Final = {
    "etcd": "go.etcd.io/etcd/server/v3",
    "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
    "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
    "kube-scheduler": "k8s.io/kubernetes/cmd/kube-scheduler",
    "kubectl": "k8s.io/kubernetes/cmd/kubectl",
    "kwok": "sigs.k8s.io/kwok/cmd/kwok",
}

Say = Callable[[str], None]


class Unavailable(Exception):
    """A part of the test bed cannot be had on this machine."""

    def __init__(self, part: str, why: str) -> None:
        super().__init__(f"{part}: {why}")
        self.part = part
        self.why = why


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaPrograms:
    """Java and the folder of jars that make a broker."""

    java: Path
    jars: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class KubernetesPrograms:
    """The programs of a member cluster."""

    etcd: Path
    apiserver: Path
    controller_manager: Path
    scheduler: Path
    kubectl: Path
    kwok: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresqlPrograms:
    """The folder that holds initdb, postgres and pg_isready."""

    folder: Path


def say_on_stderr(line: str) -> None:
    """Print a progress line where it does not mix with results."""
    print(line, file=sys.stderr, flush=True)


def cache_folder() -> Path:
    """Where built programs are kept: `FEDERATION_TESTBED_CACHE`, else a folder in the user's cache."""
    named = os.environ.get("FEDERATION_TESTBED_CACHE")
    if named:
        return Path(named).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "federation-testbed"


def ensure_kafka(say: Say = say_on_stderr) -> KafkaPrograms:
    """Java and the broker's jars, fetched with Maven when the cache has none."""
    java = _tool("kafka", "java", "default-jre-headless", say)
    pom = HERE / "kafka" / "pom.xml"

    def fetch(target: Path) -> None:
        mvn = _tool("kafka", "mvn", "maven", say)
        goal = ["dependency:copy-dependencies", f"-DoutputDirectory={target}", "-DincludeScope=runtime"]
        with tempfile.TemporaryDirectory() as work:
            shutil.copy(pom, work)
            _run_again("kafka", [str(mvn), "-B", "-q", "-f", f"{work}/pom.xml", *goal], say)

    return KafkaPrograms(java=java, jars=_cached(f"kafka-{KAFKA_VERSION}", (pom,), fetch, say))


def ensure_kubernetes(say: Say = say_on_stderr) -> KubernetesPrograms:
    """The programs of a member cluster: from `KUBEBUILDER_ASSETS` where it has them, the others built with Go."""
    given = _assets()
    missing = [name for name in GO_PROGRAMS if name not in given]
    if missing:
        module = HERE / "kubernetes"
        pins = (module / "go.mod", module / "go.sum")
        built = _cached(f"kubernetes-{KUBERNETES_VERSION}", pins, lambda target: _build_go(module, target, say), say)
        given |= {name: built / name for name in missing}
    return KubernetesPrograms(
        etcd=given["etcd"],
        apiserver=given["kube-apiserver"],
        controller_manager=given["kube-controller-manager"],
        scheduler=given["kube-scheduler"],
        kubectl=given["kubectl"],
        kwok=given["kwok"],
    )


def ensure_postgresql(say: Say = say_on_stderr) -> PostgresqlPrograms:
    """The server programs of PostgreSQL, installed from Debian when there are none."""
    if _postgresql_folder() is None:
        _install("postgresql", "postgresql", say)
    folder = _postgresql_folder()
    if folder is None:
        raise Unavailable("postgresql", "no initdb on the path or below /usr/lib/postgresql")
    return PostgresqlPrograms(folder=folder)


def _assets() -> dict[str, Path]:
    folder = os.environ.get("KUBEBUILDER_ASSETS")
    if not folder:
        return {}
    return {name: Path(folder, name) for name in GO_PROGRAMS if os.access(Path(folder, name), os.X_OK)}


def _postgresql_folder() -> Path | None:
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_major, reverse=True)
    on_path = shutil.which("initdb")
    candidates = [*installed, *([Path(on_path).resolve().parent] if on_path else [])]
    return next((f for f in candidates if all((f / p).exists() for p in ("initdb", "postgres", "pg_isready"))), None)


def _major(folder: Path) -> int:
    name = folder.parent.name
    return int(name) if name.isdigit() else 0


def _tool(part: str, program: str, package: str, say: Say) -> Path:
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/local/go/bin"
    if shutil.which(program, path=path) is None:
        _install(part, package, say)
    found = shutil.which(program, path=path)
    if found is None:
        raise Unavailable(part, f"no program {program} on the path")
    return Path(found)


def _install(part: str, package: str, say: Say) -> None:
    apt = shutil.which("apt-get")
    if apt is None or os.geteuid() != 0:
        raise Unavailable(part, f"{package} is not installed, and only root with apt-get can install it")
    with _locked("install", say):
        say(f"testbed: installing {package}")
        environment = {"DEBIAN_FRONTEND": "noninteractive"}
        _run_again(part, [apt, "update", "-q"], say, environment)
        _run_again(part, [apt, "install", "-q", "-y", "--no-install-recommends", package], say, environment)


def _build_go(module: Path, target: Path, say: Say) -> None:
    go = _tool("kubernetes", "go", "golang", say)
    version = "k8s.io/component-base/version"
    major, minor, _ = KUBERNETES_VERSION.split(".")
    flags = f"-s -w -X {version}.gitVersion=v{KUBERNETES_VERSION} -X {version}.gitMajor={major}"
    ldflags = f"{flags} -X {version}.gitMinor={minor}"
    command = [str(go), "build", "-C", str(module), "-mod=readonly", "-buildvcs=false", "-ldflags", ldflags]
    say("testbed: building Kubernetes, etcd and kwok with Go; the first time takes some minutes")
    _run_again("kubernetes", [*command, "-o", f"{target}/", *GO_PROGRAMS.values()], say, {"CGO_ENABLED": "0"})
    # Go names a program after the last element of its package that is not a version.
    (target / "server").rename(target / "etcd")


def _cached(name: str, pins: tuple[Path, ...], make: Callable[[Path], None], say: Say) -> Path:
    """The folder of the cache for *name* at these *pins*; made beside it and moved in whole when it is not there."""
    digest = hashlib.sha256(b"".join(pin.read_bytes() for pin in pins)).hexdigest()[:10]
    folder = cache_folder() / f"{name}-{digest}"
    if folder.is_dir():
        return folder
    with _locked("build", say):
        if not folder.is_dir():
            say(f"testbed: {name} is not in {cache_folder()}")
            started = time.monotonic()
            with tempfile.TemporaryDirectory(dir=cache_folder()) as work:
                fresh = Path(work, "fresh")
                fresh.mkdir()
                make(fresh)
                fresh.rename(folder)
            say(f"testbed: {name} is ready after {time.monotonic() - started:.0f} s")
    return folder


@contextlib.contextmanager
def _locked(what: str, say: Say) -> Iterator[None]:
    """Only one process at a time builds (or installs); the others wait and then find it done."""
    cache_folder().mkdir(parents=True, exist_ok=True)
    with (cache_folder() / f"{what}.lock").open("w") as file:
        deadline, told = time.monotonic() + LOCK_TIMEOUT_SECONDS, False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise Unavailable("testbed", f"another process has built for {LOCK_TIMEOUT_SECONDS} s") from None
                if not told:
                    say("testbed: waiting for another process that builds")
                told = True
                time.sleep(0.5)
        yield


def _run_again(part: str, command: list[str], say: Say, env: Mapping[str, str] | None = None) -> None:
    """Run a command that may meet a passing fault of the network, a few times; its output is shown only if all fail."""
    for attempt in range(1, TRIES + 1):
        result = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**os.environ, **(env or {})},
            check=False,
        )
        if result.returncode == 0:
            return
        last = "\n".join(result.stdout.strip().splitlines()[-15:])
        say(f"testbed: {Path(command[0]).name} failed, try {attempt} of {TRIES}")
        if attempt < TRIES:
            time.sleep(2 * attempt)
    raise Unavailable(part, f"{Path(command[0]).name} failed {TRIES} times:\n{last}")


def main() -> int:
    """Make every part available; says what is missing and why, and fails then."""
    missing = 0
    for ensure in (ensure_postgresql, ensure_kafka, ensure_kubernetes):
        try:
            say_on_stderr(f"testbed: {ensure()}")
        except Unavailable as unavailable:
            missing += 1
            say_on_stderr(f"testbed: MISSING {unavailable}")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
