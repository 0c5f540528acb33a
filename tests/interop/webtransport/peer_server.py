"""`python -m tests.interop.webtransport.peer_server LIBRARY CERTIFICATE KEY [ORIGIN …] [--idle SECONDS]`.

It serves until its standard input ends.
"""

from __future__ import annotations

import argparse
import sys

from tests.interop.webtransport.behaviours import PROTOCOLS, Site
from tests.interop.webtransport.face import LIBRARIES, Place, load


def main() -> None:
    """Serve what `behaviours` says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("library", choices=LIBRARIES)
    parser.add_argument("certificate")
    parser.add_argument("key")
    parser.add_argument("origins", nargs="*")
    parser.add_argument("--idle", type=float, default=60.0, help="seconds of silence that end a connection")
    options = parser.parse_args()
    library, site = load(options.library), Site()
    place = Place(
        handler=site.handle,
        paths=site.paths,
        certificate=options.certificate,
        key=options.key,
        origins=tuple(options.origins),
        protocols=PROTOCOLS,
        idle_timeout=options.idle,
        ended=sys.stdin.read,
    )
    library.run(lambda: library.serve(place))


if __name__ == "__main__":
    main()
