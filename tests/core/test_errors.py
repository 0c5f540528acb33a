"""The errors that machines make."""

from __future__ import annotations

import pytest

from trio_streams.codes import Code
from trio_streams.core import errors


def test_an_error_carries_what_is_to_be_asserted() -> None:
    """Code, field, size and limit are attributes; the message is for people."""
    error = errors.RemoteProtocolError("x is 5", code=Code.MESSAGE_TOO_LARGE, field="x", size=5, limit=4)
    assert (str(error), error.code, error.field, error.size, error.limit) == ("x is 5", 35, "x", 5, 4)
    plain = errors.LocalProtocolError("no")
    assert (plain.code, plain.field, plain.size, plain.limit) == (Code.PROTOCOL_ERROR, "", None, None)


@pytest.mark.parametrize(
    ("kind", "base"),
    [
        (errors.ProtocolError, errors.StreamsError),
        (errors.LocalProtocolError, errors.ProtocolError),
        (errors.RemoteProtocolError, errors.ProtocolError),
        (errors.FlowControlError, errors.RemoteProtocolError),
    ],
)
def test_who_did_it_is_in_the_type(kind: type[Exception], base: type[Exception]) -> None:
    """The tree of design §7."""
    assert issubclass(kind, base)
    assert not issubclass(errors.LocalProtocolError, errors.RemoteProtocolError)
