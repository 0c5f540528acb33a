"""WebTransport over HTTP/3 and QUIC."""
