"""`python -m tests.interop.webtransport.peer_server LIBRARY CERTIFICATE KEY [ORIGIN …]`: serves until its standard input ends."""

from __future__ import annotations

import sys

from tests.interop.webtransport.behaviours import PROTOCOLS, Site
from tests.interop.webtransport.face import Place, load


def main(library_name: str, certificate: str, key: str, *origins: str) -> None:
    """Serve what `behaviours` says."""
    library, site = load(library_name), Site()
    place = Place(site.handle, site.paths, certificate, key, origins, PROTOCOLS, sys.stdin.read)
    library.run(lambda: library.serve(place))


if __name__ == "__main__":
    main(*sys.argv[1:])
