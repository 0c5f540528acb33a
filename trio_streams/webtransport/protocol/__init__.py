"""The protocol of WebTransport over HTTP/3, both sides, without I/O and without a clock."""
