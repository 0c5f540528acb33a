"""What all tests share."""

from __future__ import annotations

import os

import hypothesis

# Deadlines measure the machine, not the code. In CI the examples are the same in every run, so that a failure there is
# the change's doing; elsewhere each run tries new ones.
hypothesis.settings.register_profile("here", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "here")
