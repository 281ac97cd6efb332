"""The roles of the program as commands: what serves, works, acts, migrates, checks and simulates."""

import typer


def register(app: typer.Typer) -> None:
    """Add the roles to the command line."""
