"""The chunked coding, whole and in every split."""

from __future__ import annotations

import pytest

from trio_streams.wire.http1_body import ChunkedBody, encode_chunk


def decode(data: bytes, *, limit: int = 100) -> tuple[bytes, bytes, int | None]:
    """The body, what is left behind it, and the status of the fault; the same for whole input and for single bytes."""
    results = []
    for step in (len(data) or 1, 1):
        body, held, pieces = ChunkedBody(limit), b"", b""
        for start in range(0, len(data), step):
            held += data[start : start + step]
            if body.is_ended or body.fault:
                continue
            found, used = body.decode(held)
            pieces += b"".join(found)
            held = held[used:]
        results.append((pieces, held if body.is_ended else b"", body.fault.status if body.fault else None))
        assert body.is_ended or body.fault or results[-1][1] == b""
    assert results[0] == results[1]
    return results[0]


@pytest.mark.parametrize(
    ("data", "body", "rest"),
    [
        (b"0\r\n\r\n", b"", b""),
        (b"3\r\nabc\r\n0\r\n\r\nGET", b"abc", b"GET"),
        (b"A\r\n0123456789\r\n1;x=y\r\n!\r\n000\r\n\r\n", b"0123456789!", b""),
        (b"1 \t;ext\r\na\r\n0\r\nX: y\r\nz:\r\n\r\n", b"a", b""),
    ],
)
def test_a_body_and_what_is_behind_it(data: bytes, body: bytes, rest: bytes) -> None:
    """Chunks are joined, extensions and trailers dropped, and the next request left alone."""
    assert decode(data) == (body, rest, None)


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n",
        b"g\r\n",
        b"-1\r\n",
        b"+1\r\n",
        b"0x1\r\n",
        b"1_0\r\n",
        b" 1\r\n",
        b"1 \r\n",
        b"1\n",
        b"\n",
        b"1\r\nab\r\n",
        b"1\r\na\n",
        b"1\r\na\r\r\n",
        b"1\r\na\n\r\n",
        b"1\0\r\n",
        b"1;\0\r\n",
        b"1;\x7f\r\n",
        b"11111111111111111\r\n",
        b"1" * 300,
        b"1;" + b"x" * 300 + b"\r\n",
        b"0\r\nX : y\r\n\r\n",
        b"0\r\n folded\r\n\r\n",
        b"0\r\nX: \0\r\n\r\n",
        b"0\r\nX: y\n\r\n",
    ],
)
def test_what_decoders_could_read_differently_is_400(data: bytes) -> None:
    """Sizes are hexadecimal digits, lines end with CR LF, and trailers are headers."""
    assert decode(data)[2] == 400


@pytest.mark.parametrize(
    "data", [b"0\r\n" + b"a: bcdefg\r\n" * 10, b"0\r\n" + b"x" * 103, b"0\r\na:" + b"b" * 97 + b"\r\n"]
)
def test_trailers_are_bounded(data: bytes) -> None:
    """More than the limit is 431, in one line or in many."""
    assert decode(data)[2] == 431


def test_pieces_before_a_fault_are_good() -> None:
    """What came whole is handed over before the fault."""
    assert decode(b"3\r\nabc\r\nx\r\n") == (b"abc", b"", 400)


def test_chunks_that_are_mostly_extensions_are_refused() -> None:
    """Long extensions on tiny chunks come to an end; on honest chunks they are paid for."""
    assert decode((b"1;" + b"x" * 200 + b"\r\na\r\n") * 100)[2] == 400
    assert decode((b"200;" + b"x" * 200 + b"\r\n" + b"a" * 512 + b"\r\n") * 100 + b"0\r\n\r\n")[2] is None
    assert decode(b"1\r\na\r\n" * 10_000 + b"0\r\n\r\n")[0] == b"a" * 10_000


def test_a_chunk_is_what_is_decoded() -> None:
    """One chunk for what there is, and none for nothing: that one would be the last."""
    assert encode_chunk(b"") == b""
    body = ChunkedBody(1_000)
    data = b"x" * 26
    coded = encode_chunk(data)
    assert coded.startswith(b"1a\r\n")
    assert body.decode(coded) == ([data], len(coded))
    assert not body.is_ended
