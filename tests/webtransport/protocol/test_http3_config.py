"""The limits of HTTP/3."""

from __future__ import annotations

import attrs
import pytest

from trio_streams.webtransport.protocol.http3_config import Http3Config


@pytest.mark.parametrize("field", [field.name for field in attrs.fields(Http3Config)])
def test_no_limit_is_negative(field: str) -> None:
    """A limit that cannot be is refused where it was written."""
    with pytest.raises(ValueError, match=field):
        Http3Config(**{field: -1})
