"""Carriers that can tell without waiting whether they take bytes."""

from __future__ import annotations

import trio

from tests.transports.links import tcp_pair, websocket_pair
from trio_streams.carrier import PromptCarrier
