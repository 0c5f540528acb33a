"""Which form each kind of procedure has in JSON envelopes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from trio_streams.procedures.procedure import Kind
from trio_streams.procedures.router import Router
from trio_streams.wire.envelope_writer import Form

__all__ = ["FORMS", "find_form"]

FORMS: Final[Mapping[Kind, Form]] = {
    Kind.CALL: Form.CALL,
    Kind.EVENT: Form.EVENT,
    Kind.SERVER: Form.STREAM,
    Kind.CLIENT: Form.UPLOAD,
    Kind.BIDIRECTIONAL: Form.BIDIRECTIONAL,
}


def find_form(router: Router, name: str) -> Form | None:
    """What a client asks for by a name; None for one that no procedure has."""
    found = router.find(name)
    return None if found is None else FORMS[found[0].kind]
