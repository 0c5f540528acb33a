"""`trio-streams demo`: real streams of the machine it runs on, over every transport, and a view of them."""

from __future__ import annotations
