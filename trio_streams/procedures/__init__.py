"""Procedures: declared calls and streams, served and called over every transport."""

from __future__ import annotations

from trio_streams.procedures.client import Client as Client
from trio_streams.procedures.client import ConnectionClient as ConnectionClient
from trio_streams.procedures.durable.following import DurableItems as DurableItems
from trio_streams.procedures.procedure import Kind as Kind
from trio_streams.procedures.procedure import Procedure as Procedure
from trio_streams.procedures.procedure import ResumePoint as ResumePoint
from trio_streams.procedures.router import Declaration as Declaration
from trio_streams.procedures.router import Router as Router

__all__ = [
    "Client",
    "ConnectionClient",
    "Declaration",
    "DurableItems",
    "Kind",
    "Procedure",
    "ResumePoint",
    "Router",
]
