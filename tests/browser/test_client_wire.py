"""The client's wire beside the server's: the same bytes, the same faults, and the same however input is cut."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable

import pytest

from tests.browser.node import FOLDER, command, run_node
from tests.wire.test_binary import BAD_FRAMES, VECTORS
from trio_streams.browser import client_file
from trio_streams.codes import Code
from trio_streams.core import records
from trio_streams.core.assembly import Piece
from trio_streams.wire.binary import PREFACE, BinaryWire

TOO_LARGE = {"empty item", "pong"}  # a stream and a number beyond 2^53


@pytest.mark.parametrize("file", ["machine.test.mjs", "session.test.mjs"])
def test_the_machine_by_itself(file: str) -> None:
    """Credit, order, states and liveness; sessions cut anywhere: under Node's own test runner."""
    done = subprocess.run(
        command("--test", "--test-reporter=spec", str(FOLDER / file)),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr


async def test_vectors_come_back() -> None:
    """Each frame that is written down is decoded and encoded to the same bytes."""
    frames = [data.hex() for name, data, _, _ in VECTORS if name not in TOO_LARGE]
    assert await run_node("wire.mjs", "again", frames) == frames
    await run_node("wire.mjs", "refusals")


def _random_frames(count: int) -> list[bytes]:
    dice = random.Random(7)
    wire = BinaryWire()

    def text() -> str:
        return "".join(dice.choice('aä€😀"\\\n\x00\x1f\x7f\u2028/<') for _ in range(dice.randrange(12)))

    def pairs() -> dict[str, str]:
        return {text(): text() for _ in range(dice.randrange(3))}

    def number() -> int:
        return dice.choice([0, 1, 2**31, 2**32 - 1, 2**32, 2**53 - 2, dice.randrange(2**53)])

    makers: list[Callable[[], records.Record]] = [
        lambda: records.Open(
            text(), pairs(), dice.randrange(-128, 128), dice.choice([None, number()]), number(), number()
        ),
        lambda: records.Header(pairs()),
        lambda: records.End(records.Status(text() or "OK", text(), [text(), 1, None, True, {"ü": 0.5}]), pairs()),
        lambda: records.Reset(dice.choice(list(Code)), text()),
        lambda: records.Stop(dice.choice(list(Code)), text()),
        lambda: records.Credit(number(), number()),
    ]
    frames = []
    for _ in range(count):
        stream_id = 1 + number() % (2**53 - 2)
        frames.append(wire.encode(stream_id, dice.choice(makers)()))
        items = [dice.randbytes(dice.randrange(30)) for _ in range(dice.choice([1, 2, 300]))]
        frames.append(wire.encode_run(stream_id, items))
        piece = Piece(dice.randbytes(50), dice.choice([None, 2**32 - 1]))
        frames.append(b"".join(wire.encode_piece(stream_id, piece)))
        frames.append(wire.encode(0, records.GoAway(dice.choice(list(Code)), text(), number())))
    return frames


async def test_random_frames_come_back() -> None:
    """Numbers around 2^31, 2^32 and 2^53, text of all planes, runs and pieces: the same bytes from both encoders."""
    frames = [frame.hex() for frame in _random_frames(60)]
    assert await run_node("wire.mjs", "again", frames) == frames


async def test_malformed_frames_are_named() -> None:
    """What the server's decoder refuses the client's refuses too, and names the same field or one inside it."""
    # 2^63 and 2^63-1, which is allowed, are one and the same double.
    frames = [bad for bad in BAD_FRAMES if bad[0] != "OPEN wide"]
    faults = await run_node("wire.mjs", "faults", [data.hex() for _, data, _, _, _ in frames])
    for (name, _, field, _, _), fault in zip(frames, faults, strict=True):
        assert fault is not None, name
        assert fault[:2] == ["RemoteProtocolError", "PROTOCOL_ERROR"], name
        assert fault[2].partition(".")[0] == field.partition(".")[0], (name, fault)


async def test_numbers_beyond_a_double_are_refused_or_without_limit() -> None:
    """A stream beyond 2^53 can't be; a limit beyond it is as good as none."""
    data = {name: data for name, data, _, _ in VECTORS}
    ((name, _, field, _),) = await run_node("wire.mjs", "faults", [data["empty item"].hex()])
    assert (name, field) == ("RemoteProtocolError", "stream_id")
    credit = BinaryWire().encode(0, records.ConnectionCredit(2**64 - 1, 2**63))
    (back,) = await run_node("wire.mjs", "again", [credit.hex()])
    assert bytes.fromhex(back)[12:] == (2**53 - 1).to_bytes(8, "big") * 2


async def test_a_recorded_session_may_be_cut_anywhere() -> None:
    """Sixty seeded ways to cut one session: the same items, events and counts."""
    wire = BinaryWire()
    hello = records.Hello("s", window_items=9, window_bytes=999, connection_bytes=9999, max_streams=3, max_item_bytes=9)
    large = bytes(range(256)) * 200
    pieces = [Piece(large[:100], len(large)), *(Piece(large[n : n + 9_999]) for n in range(100, len(large), 9_999))]
    session = [
        PREFACE,
        wire.encode(0, hello),
        wire.encode(1, records.Header({"ü": "1"})),
        wire.encode_run(3, [b"a", b"", b"b"]),
        *(b"".join(wire.encode_piece(1, piece)) for piece in pieces),
        wire.encode_run(1, [b"last"]),
        wire.encode(1, records.End(trailers={"t": "2"})),
        wire.encode(3, records.End(records.Status("NOT_FOUND", "no", [1]))),
        wire.encode_run(5, [b"dropped"]),
        wire.encode(5, records.Reset(Code.ABORTED, "gone")),
        wire.encode(5, records.Stop(Code.ABORTED, "gone")),
        wire.encode(0, records.Ping(1)),
        wire.encode(0, records.Credit(1, 1)),
    ]
    outcome = await run_node("wire.mjs", "replay", b"".join(session).hex(), 3, 60)
    assert outcome["1"]["items"] == [large.hex(), b"last".hex()]
    assert [event[0] for event in outcome["1"]["rest"]] == ["headed", "ended"]
    assert outcome["3"]["items"] == ["61", "", "62"]
    assert outcome["3"]["rest"][0][1] == {"code": "NOT_FOUND", "message": "no", "details": [1], "trailers": {}}
    assert [event[0] for event in outcome["5"]["rest"]] == ["reset", "stopped"]
    assert outcome["failure"] is None
    assert outcome["unread"] == 0
    assert outcome["frames"] == len(session) - 3  # all but the preface, HELLO and PING


@pytest.mark.parametrize("code", list(Code))
def test_codes_are_the_servers(code: Code) -> None:
    """The client's table has each code of ours, by name and number, and no other."""
    text = client_file().decode()
    table = text[text.index("export const CODES") :].partition("});")[0]
    assert f"\n  {code.name}: {code.value},\n" in table
    assert table.count(": ") == len(Code)
