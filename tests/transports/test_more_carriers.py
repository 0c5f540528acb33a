"""Every further carrier keeps the claims of all carriers."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from tests.transports.carrier_checks import CHECKS, Check, Maker, check_loss
from tests.transports.more_links import MORE_LINKS, process_up, tls_up


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("link", MORE_LINKS, ids=lambda link: link.__name__)
async def test_checks(check: Check, link: Maker) -> None:
    """TLS, Unix sockets, pipes, child processes, channels and ASGI WebSockets keep every carrier's claims."""
    if check is check_loss and link in {tls_up, process_up}:
        return  # seen from the other side, it is `tls_down` and `process_down`
    with trio.fail_after(30):
        await check(link)
