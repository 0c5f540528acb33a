"""A server of durable streams: the machine's driver, its exchange handler, and how it is served."""
