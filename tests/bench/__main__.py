"""Measurements: `python -m tests.bench [NAME [ARGUMENT…]]` runs `bench_NAME.py` beside this file, or all of them.

Each module has `run(arguments: list[str]) -> None`, which prints one table and takes well under a minute a row.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path


def main(arguments: list[str]) -> int:
    """Run the benchmarks that are asked for and return the exit code."""
    known = sorted(path.stem.removeprefix("bench_") for path in Path(__file__).parent.glob("bench_*.py"))
    if arguments and arguments[0] not in known:
        print(f"there is no benchmark {arguments[0]!r}; known: {', '.join(known)}", file=sys.stderr)
        return 2
    for name in arguments[:1] or known:
        import_module(f"tests.bench.bench_{name}").run(arguments[1:])
    return 0


sys.exit(main(sys.argv[1:]))
