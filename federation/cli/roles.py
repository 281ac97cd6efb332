"""The roles of the program as commands: what serves, works, acts, migrates, checks and simulates."""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from federation.config import Settings
    from federation.simulator.run import Result

Role = Callable[["Settings", asyncio.Event], Awaitable[None]]
Config = Annotated[str, typer.Option("--config", help="A TOML file of settings.", envvar="FEDERATION_CONFIG")]
Listen = Annotated[str, typer.Option("--listen", help="host:port to serve on (FEDERATION_LISTEN).")]
DataDir = Annotated[str, typer.Option("--data-dir", help="Where the embedded default keeps its files.")]

Kubeconfig = Annotated[str, typer.Option("--kubeconfig", help="The kubeconfig of the member clusters.")]
Context = Annotated[
    str, typer.Option("--context", help="A context of the kubeconfig; for `up` several: name=context,…")
]


def register(app: typer.Typer) -> None:
    """Add the roles to the command line."""
    for command in (up, serve, work, agent, migrate, check, simulate):
        app.command(rich_help_panel="Roles")(command)


def up(
    config: Config = "",
    listen: Listen = "",
    data_dir: DataDir = "",
    kubeconfig: Kubeconfig = "",
    context: Context = "",
) -> None:
    """Run everything in one process: SQLite, a log of its own and six simulated clusters, or real ones by --context."""
    from federation import bootstrap

    given = {"listen": listen, "data_dir": data_dir, "kubeconfig": kubeconfig, "context": context}
    _run(bootstrap.up, config, given, greet=True)


def serve(config: Config = "", listen: Listen = "") -> None:
    """Serve the REST API on a database and a log that other processes work on."""
    from federation import bootstrap

    _run(bootstrap.serve, config, {"listen": listen})


def work(config: Config = "") -> None:
    """Run the hub's loops: ingester, scheduler, dispatcher, clock."""
    from federation import bootstrap

    _run(bootstrap.work, config, {})


def agent(
    config: Config = "",
    cluster: Annotated[str, typer.Option("--cluster", help="The name of the member cluster.")] = "",
    kubeconfig: Kubeconfig = "",
    context: Context = "",
) -> None:
    """Observe one member cluster and carry out its orders; without a kubeconfig, from inside it."""
    from federation import bootstrap

    _run(bootstrap.agent, config, {"cluster": cluster, "kubeconfig": kubeconfig, "context": context})


def migrate(
    config: Config = "",
    restored: Annotated[
        bool, typer.Option("--restored", help="The database was restored from a backup: adopt what the members run.")
    ] = False,
) -> None:
    """Bring the database's schema to the version that this program needs."""
    from adapters.sql import schema
    from federation import bootstrap

    async def role(settings: "Settings", _stop: asyncio.Event) -> None:
        await schema.migrate(settings.database)
        typer.echo("the schema is current")
        if restored:
            begun = await bootstrap.restored(settings)
            typer.echo(f"generation {begun.generation} begins, {begun.dropped} orders of older ones are dropped")
            typer.echo(f"awaiting the inventory of: {', '.join(begun.clusters) or 'no cluster'}")

    _run(role, config, {})


def check(
    config: Config = "",
    rebuild: Annotated[
        str, typer.Option("--rebuild", metavar="CLUSTER|all", help="Count a damaged view again before it is checked.")
    ] = "",
) -> None:
    """Prove the invariants on a live database: a line each, status 1 if any does not hold."""
    from federation import bootstrap

    verdicts: set[str] = set()

    async def role(settings: "Settings", _stop: asyncio.Event) -> None:
        for line in await bootstrap.checked(settings, rebuild):
            typer.echo(str(line))
            verdicts.add(line.verdict)

    _run(role, config, {})
    if "wrong" in verdicts:
        sys.exit(1)


def simulate(
    scenario: Annotated[str, typer.Argument(help="A scenario that ships, or a file; none: each in turn.")] = "",
    seed: Annotated[int, typer.Option("--seed", min=0, help="The first seed.")] = 1,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="How many seeds.")] = 1,
    jobs: Annotated[int, typer.Option("--jobs", min=0, help="Processes; 0: one a core.")] = 0,
    trace: Annotated[bool, typer.Option("--trace", help="Tell the whole history.")] = False,
) -> None:
    """Run the real loops through a scenario in virtual time: whatever goes wrong, the invariants hold."""
    from federation.domain.errors import FederationError
    from federation.simulator.many import play_many, seeds_of
    from federation.simulator.scenario import load

    try:
        todo = seeds_of(scenario, seed, seeds)
        for name in {name for name, _ in todo}:
            load(name)
        failed = sum(_told(result) for result in play_many(todo, workers=jobs, traced=trace))
    except FederationError as error:
        typer.echo(f"federation: {error}", err=True)
        sys.exit(1)
    typer.echo(f"{len(todo) - failed} of {len(todo)} seeds hold")
    sys.exit(1 if failed else 0)


def _told(result: "Result") -> int:
    """Print how a seed came out; 1 where it failed."""
    for line in result.trace:
        typer.echo(line)
    typer.echo(result.line)
    if result.violation:
        typer.echo(f"  again: federation simulate {result.scenario} --seed {result.seed} --trace")
    return int(bool(result.violation))


def _run(role: Role, config: str, overrides: dict[str, str], *, greet: bool = False) -> None:
    """Run a role until it ends or is told to stop; a refusal is one line and status 1."""
    import uvloop

    from adapters.telemetry import set_up_logs
    from federation.config import load, with_overrides
    from federation.domain.errors import FederationError

    try:
        settings = with_overrides(load(path=config), overrides)
        set_up_logs(settings.log_format, settings.log_level)
        if greet:
            _greet(settings)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_until_told(role, settings))
    except* FederationError as group:
        for error in group.exceptions:
            typer.echo(f"federation: {error}", err=True)
        sys.exit(1)


async def _until_told(role: Role, settings: "Settings") -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await role(settings, stop)


def _greet(settings: "Settings") -> None:
    host, port = settings.address
    server = "" if (host, port) == ("127.0.0.1", 8080) else f" --server http://{host}:{port}"
    launcher = Path(sys.prefix, "bin", "federation")
    named = min(str(launcher), os.path.relpath(launcher), key=len)
    program = named if launcher.exists() else f"{sys.executable} -m federation"
    clusters = f"the clusters of {settings.context}" if settings.context else f"{settings.members} simulated clusters"
    lines = (
        f"Federation serves on http://{host}:{port} with {clusters}; data in {settings.data_dir}",
        "Try, in another terminal:",
        f"  {program} get clusters{server}",
        f"  {program} place web --replicas 40 --cpu 500m --memory 1Gi --spread region:2{server}",
        f"  {program} explain web{server}",
    )
    typer.echo("\n".join(lines), err=True)
