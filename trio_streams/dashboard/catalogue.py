"""What the page of procedures is told: the server's reflection, and beside it what helps to try a procedure."""

from __future__ import annotations

from typing import Final

import attrs

from trio_streams.codecs import Codec, json_codec
from trio_streams.errors import CodecError
from trio_streams.procedures.describe import ProcedureDescription, describe
from trio_streams.procedures.documents.routes import PATHS
from trio_streams.procedures.procedure import Procedure
from trio_streams.procedures.router import Router

__all__ = ["catalogue"]

_json: Final[Codec[object]] = json_codec(object)


def catalogue(app: Router) -> dict[str, object]:
    """The procedures of an application as JSON's own types.

    Beside what `describe` answers: each procedure's examples and the part of its metadata that JSON can say, and where
    the application's documents are, below its root; none where it has not enabled them.

    Args:
      app: the application.
    """
    description = describe(app)
    declared = {procedure.name: procedure for procedure in app}
    return {
        "procedures": [_entry(described, declared[described.name]) for described in description.procedures],
        "schemas": description.schemas,
        "documents": [path.removeprefix("/") for path in PATHS] if app.documents is not None else [],
    }


def _entry(described: ProcedureDescription, procedure: Procedure) -> dict[str, object]:
    return {
        **attrs.asdict(described, recurse=False),
        "metadata": {key: value for key, value in procedure.metadata.items() if _is_json(value)},
        "examples": [
            {
                "description": example.description,
                "input": procedure.example_json(example.input, "input"),
                "output": procedure.example_json(example.output, "output"),
            }
            for example in procedure.examples
        ],
    }


def _is_json(value: object) -> bool:
    """Other values are for interceptors, and nobody else's business."""
    try:
        _json.encode(value)
    except CodecError:
        return False
    return True
