"""Runs the benchmarks, all or those named: `python -m tests.benchmarks [--quick] [NAME ...]`, such as `wire latency`."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

NAMES = sorted(path.stem.removeprefix("bench_") for path in Path(__file__).parent.glob("bench_*.py"))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round with few items: shows that they run")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(NAMES)}; all by default")
    chosen = parser.parse_args()
    for name in chosen.names:
        if name not in NAMES:
            parser.error(f"there is no benchmark {name!r}: choose from {', '.join(NAMES)}")
    quick = ["--quick"] if chosen.quick else []
    # Each in a process of its own: what one has allocated or imported is no matter to the next.
    codes = [
        subprocess.run([sys.executable, "-m", f"tests.benchmarks.bench_{name}", *quick], check=False).returncode
        for name in chosen.names or NAMES
    ]
    return max(codes, default=0)


if __name__ == "__main__":
    sys.exit(main())
