"""The protocol of durable streams, both sides, without I/O and without a clock."""
