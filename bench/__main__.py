"""Runs the sections of ``scripts/bench [NAME …]``.

``scripts/bench NAME`` calls ``main`` of ``bench/NAME.py`` with the other arguments; without a name all sections run in
turn.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path


def main(arguments: list[str]) -> int:
    """Run one section, or all. Return 1 if a goal was missed, 2 for an unknown section."""
    names = sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py"))
    if arguments and arguments[0] not in names:
        print(f"scripts/bench [NAME …], where NAME is one of {', '.join(names)}", file=sys.stderr)
        return 2
    wanted, rest = (arguments[:1], arguments[1:]) if arguments else (names, [])
    return max(int(importlib.import_module(f"bench.{name}").main(rest)) for name in wanted)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
