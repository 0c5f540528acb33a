"""The servers that the published clients meet: ours on either host with either store, and the published one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.interop.durable.reference import start_reference


@pytest.fixture(scope="module", params=["reference"])
def server_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running server; one for a module's tests."""
    with start_reference() as url:
        yield url
