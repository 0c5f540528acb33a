"""Reflection: what a server offers, as data that a client without the server's code can use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import attrs

from trio_streams.codecs.json_schema import Schema, Schemas
from trio_streams.procedures.procedure import Kind, Procedure, declare, is_parameter

__all__ = ["DESCRIBE", "Description", "ProcedureDescription", "describe", "describing"]

DESCRIBE = "describe"
"""The call that every server answers, unless its application has one of that name itself."""


@attrs.frozen(kw_only=True)
class ProcedureDescription:
    """One procedure.

    Attributes:
      name: what callers ask for.
      kind: `call`, `event`, `server`, `client` or `bidirectional`.
      description: in a line.
      input: the schema of the input, or of each item that the caller sends; None where the handler looks at none.
      output: the schema of the result, or of each item that the handler sends.
      is_input_optional: whether the input may be left out.
      content_type: of its items, where the application's default is not meant.
      is_durable: whether its runs go on without their callers, who can go on behind any item.
    """

    name: str
    kind: str
    description: str = ""
    input: Schema | None = None
    output: Schema | None = None
    is_input_optional: bool = False
    content_type: str | None = None
    is_durable: bool = False


@attrs.frozen(kw_only=True)
class Description:
    """What a server offers.

    Attributes:
      procedures: in the order of their names.
      schemas: what their schemas refer to as `#/schemas/<name>`.
    """

    procedures: list[ProcedureDescription]
    schemas: Mapping[str, Schema] = attrs.field(factory=dict)

    def find(self, name: str) -> ProcedureDescription | None:
        """What a name stands for, one with something in the place of its parameters included; None for an unknown one."""
        given = name.split(".")
        matching: ProcedureDescription | None = None
        for one in self.procedures:
            if one.name == name:
                return one
            parts = one.name.split(".")
            if len(parts) == len(given) and all(is_parameter(p) or p == g for p, g in zip(parts, given, strict=True)):
                matching = matching or one
        return matching


def describe(procedures: Iterable[Procedure]) -> Description:
    """Describe procedures.

    Args:
      procedures: a router, or some of its procedures.
    """
    schemas = Schemas("#/schemas/")
    listed = [_describe_one(procedure, schemas) for procedure in sorted(procedures, key=lambda one: one.name)]
    return Description(procedures=listed, schemas=schemas.components)


def describing(procedures: Iterable[Procedure]) -> Procedure:
    """The call that describes procedures, as they are whenever it is asked."""

    async def answer() -> Description:
        """What this server offers."""
        return describe(procedures)

    return declare(DESCRIBE, Kind.CALL, answer)


def _describe_one(procedure: Procedure, schemas: Schemas) -> ProcedureDescription:
    takes = procedure.takes_input or procedure.kind.takes_items
    gives = procedure.kind.gives_items or procedure.kind.gives_result
    return ProcedureDescription(
        name=procedure.name,
        kind=procedure.kind.value,
        description=procedure.description,
        input=schemas.of(procedure.input_type) if takes else None,
        output=schemas.of(procedure.output_type) if gives else None,
        is_input_optional=takes and not procedure.kind.takes_items and procedure.has_default_input,
        content_type=procedure.content_type,
        is_durable=procedure.durable is not None,
    )
