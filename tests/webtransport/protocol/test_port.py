"""The port is what QUIC offers."""

from __future__ import annotations

import inspect

import pytest

from trio_streams.webtransport.protocol.port import DrivenQuic, QuicPort
from trio_streams.webtransport.quic import Quic

METHODS = sorted(
    name for port in (QuicPort, DrivenQuic) for name, value in vars(port).items() if inspect.isfunction(value)
)


@pytest.mark.parametrize("name", [name for name in METHODS if not name.startswith("_")])
def test_quic_has_each_method_as_the_port_has_it(name: str) -> None:
    """With the same parameters, and a docstring of its own that says what they are."""
    ours, port = getattr(Quic, name), getattr(DrivenQuic, name)
    assert list(inspect.signature(ours).parameters) == list(inspect.signature(port).parameters)
    assert ours.__doc__
