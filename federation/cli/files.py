"""Manifests from files and standard input."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import typer
import yaml

from federation.cli.failures import Failed
from federation.domain.errors import Invalid
from federation.domain.manifest import read_documents

_MOST_BYTES: Final = 4 * 2**20


def read_manifest(file: str) -> dict[str, Any]:
    """The one workload of a file, or of standard input for `-`."""
    try:
        return read_documents(_documents(_text(file)))
    except yaml.YAMLError as error:
        raise Failed(f"{file} is not YAML: {error}") from error
    except Invalid as error:
        raise Failed(f"{file}: {error}") from error


def _text(file: str) -> str:
    try:
        if file == "-":
            return sys.stdin.read(_MOST_BYTES)
        with Path(file).open(encoding="utf-8") as stream:
            return stream.read(_MOST_BYTES)
    except OSError as error:
        raise typer.BadParameter(f"cannot read {file}: {error.strerror}", param_hint="-f") from error
    except UnicodeDecodeError as error:
        raise typer.BadParameter(f"{file} is not UTF-8 text", param_hint="-f") from error


def _documents(text: str) -> Iterator[object]:
    class Loader(yaml.SafeLoader):
        """Safe, and without dates: a manifest's dates are text."""

    Loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    return iter(list(yaml.load_all(text, Loader)))
