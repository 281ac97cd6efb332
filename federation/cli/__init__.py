"""The command line: what people type, over the REST API, and the roles that the program itself runs in.

Commands start fast, since completion and shell loops start them often: what only some of them need (HTTP, YAML,
rich) is imported where it is used.
"""

from typing import Annotated

import typer

from federation.cli import change, place, read, roles

app = typer.Typer(
    name="federation",
    help="Many Kubernetes clusters as one pool: place workloads, see why they went where they did.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"federation {_version()}")
        raise typer.Exit


def _version() -> str:
    """That of the source beside this file, else of the installed package."""
    import tomllib
    from importlib.metadata import version
    from pathlib import Path

    try:
        project = tomllib.loads(Path(__file__).parents[2].joinpath("pyproject.toml").read_text(encoding="utf-8"))
        return str(project["project"]["version"])
    except (OSError, KeyError):
        return version("federation")


@app.callback()
def _program(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and leave.")
    ] = False,
) -> None:
    """Many Kubernetes clusters as one pool: place workloads, see why they went where they did."""


for part in (read, place, change, roles):
    part.register(app)


def main() -> None:
    """Run the command that was typed."""
    app(prog_name="federation")
