"""Interceptors that many applications want; each is optional, and written with nothing that yours could not use."""

from __future__ import annotations

from trio_streams.procedures.interceptors.authentication import BearerAuthentication as BearerAuthentication
from trio_streams.procedures.interceptors.authentication import Principal as Principal
from trio_streams.procedures.interceptors.authentication import Tickets as Tickets
from trio_streams.procedures.interceptors.authentication import require_scopes as require_scopes
from trio_streams.procedures.interceptors.limits import ConcurrencyLimit as ConcurrencyLimit
from trio_streams.procedures.interceptors.limits import RateLimit as RateLimit
from trio_streams.procedures.interceptors.limits import by_caller as by_caller
from trio_streams.procedures.interceptors.limits import timeout as timeout

__all__ = [
    "BearerAuthentication",
    "ConcurrencyLimit",
    "Principal",
    "RateLimit",
    "Tickets",
    "by_caller",
    "require_scopes",
    "timeout",
]
