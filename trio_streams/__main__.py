"""`python -m trio_streams` is `trio-streams`."""

from __future__ import annotations

import sys

from trio_streams.cli import main

if __name__ == "__main__":
    sys.exit(main())
