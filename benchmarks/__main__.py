"""`python -m benchmarks [NAME …]`: each bar in a process of its own, so that none is measured in another's garbage."""

import asyncio
import logging
import subprocess
import sys
from importlib import import_module

from benchmarks.registry import BARS, Bar
from benchmarks.report import Line, absent
from tests.testbed.build import Unavailable

LONGEST_SECONDS = 400


def main(arguments: list[str]) -> int:
    """Print a line for each bar named, or for all; status 2 when there is none of that name."""
    names = [name for name in arguments if not name.startswith("--")] or list(BARS)
    unknown = sorted(set(names) - BARS.keys())
    if unknown:
        print(f"no benchmark is called {', '.join(unknown)}; there are {', '.join(BARS)}", file=sys.stderr)
        return 2
    if len(names) == 1:
        logging.disable(logging.WARNING)
        print(asyncio.run(measured(names[0], tiny="--tiny" in arguments)).encoded(), flush=True)
        return 0
    options = [argument for argument in arguments if argument.startswith("--")]
    return max(apart(name, options) for name in names)


async def measured(name: str, *, tiny: bool = False) -> Line:
    """The line of one bar; where a real part is missing it says so."""
    bar = BARS[name]
    module = import_module(f"benchmarks.{bar.module}")
    try:
        line: Line = await getattr(module, bar.function)(module.TINY if tiny else module.FULL)
    except Unavailable as missing:
        return absent(name, bar.unit, str(missing))
    return line


def apart(name: str, options: list[str]) -> int:
    command = [sys.executable, "-m", "benchmarks", name, *options]
    try:
        return subprocess.run(command, timeout=LONGEST_SECONDS, check=False).returncode
    except subprocess.TimeoutExpired:
        print(absent(name, BARS[name].unit, f"not done within {LONGEST_SECONDS} s").encoded(), flush=True)
        return 1


__all__ = ["Bar", "main", "measured"]

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
