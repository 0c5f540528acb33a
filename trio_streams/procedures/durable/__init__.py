"""Server streams whose items are kept: a handler's run outlives its callers, who come back to where they were."""
