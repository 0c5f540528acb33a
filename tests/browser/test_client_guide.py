"""The JavaScript of the guide that says it is run here."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from tests.browser.node import run_node
from tests.browser.resuming_site import open_resuming_site

GUIDE: Final = Path(__file__).resolve().parent.parent.parent / "docs" / "guides" / "javascript.md"
BLOCKS: Final = re.findall(
    r"^<!-- not run: JavaScript, run by tests/browser -->\n```js\n(.*?)^```$",
    GUIDE.read_text(encoding="utf-8"),
    re.MULTILINE | re.DOTALL,
)


async def test_the_guides_client_goes_on() -> None:
    """The block about a network that goes away, whose network goes away."""
    assert len(BLOCKS) == 2
    async with open_resuming_site() as site:
        shown = await run_node("guide.mjs", "run", BLOCKS[0], site.url, site.pages)
    assert ["detached", 0] in shown


async def test_the_guides_peer_talks() -> None:
    """The block about two equals."""
    async with open_resuming_site() as site:
        shown = await run_node("guide.mjs", "run", BLOCKS[1], f"{site.url}peers", site.pages)
    assert shown == [[5, [1, 2, 3], [0, 1, 2]]]
