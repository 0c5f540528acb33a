"""The Jupyter extension: `%load_ext trio_streams.notebook` gives a kernel one Trio run and a `nursery` that live as
long as it does.

Cells may `await` anything of Trio's; tasks of `nursery` go on between cells; an interrupt cancels the running cell
alone; streams and connections show their statistics. A cell without any `await` runs outside Trio's tasks, as plain
Python; background tasks pause meanwhile, as they do for anything that blocks.
"""

from __future__ import annotations

from trio_streams.notebook.extension import KernelShell as KernelShell
from trio_streams.notebook.extension import live as live
from trio_streams.notebook.extension import load_ipython_extension as load_ipython_extension
from trio_streams.notebook.extension import unload_ipython_extension as unload_ipython_extension
from trio_streams.notebook.nursery import KernelNursery as KernelNursery

__all__ = ["KernelNursery", "KernelShell", "live", "load_ipython_extension", "unload_ipython_extension"]
