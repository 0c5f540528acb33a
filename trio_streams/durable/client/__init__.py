"""The clients of durable streams: native on Trio, and blocking over the same machines."""
