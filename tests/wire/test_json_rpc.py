"""JSON-RPC 2.0: the specification's examples, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_streams.core.errors import LocalProtocolError
from trio_streams.core.records import Status
from trio_streams.wire.json_rpc import JsonRpcCall, JsonRpcExchange, JsonRpcLimits

NOT_FOUND = Status("NOT_FOUND", "Method not found")

BATCH = (
    '[{"jsonrpc":"2.0","method":"sum","params":[1,2,4],"id":"1"},{"jsonrpc":"2.0","method":"notify_hello","params":[7]},'
    '{"jsonrpc":"2.0","method":"subtract","params":[42,23],"id":"2"},{"foo":"boo"},'
    '{"jsonrpc":"2.0","method":"foo.get","params":{"name":"myself"},"id":"5"},{"jsonrpc":"2.0","method":"get_data","id":"9"}]'
)


def load(text: bytes) -> Any:  # noqa: ANN401 - whatever JSON holds
    return json.loads(text) if text else None


def serve(text: str | bytes, limits: JsonRpcLimits | None = None) -> Any:  # noqa: ANN401 - as above
    """An answer by a server that knows `subtract`, `sum` and `get_data`, as the specification's examples do."""
    exchange = JsonRpcExchange(text.encode() if isinstance(text, str) else text, limits)
    for call in exchange.calls:
        params = load(call.params or b"")
        if call.method == "subtract":
            first, second = params if isinstance(params, list) else (params["minuend"], params["subtrahend"])
            exchange.respond(call.number, json.dumps(first - second).encode())
        elif call.method == "sum":
            exchange.respond(call.number, json.dumps(sum(params)).encode())
        elif call.method == "get_data":
            exchange.respond(call.number, b'["hello",5]')
        else:
            exchange.fail(call.number, NOT_FOUND)
    assert exchange.is_complete
    return load(exchange.text())


def error(code: int, message: str, id_: object = None, **data: object) -> dict[str, object]:
    found: dict[str, object] = {"code": code, "message": message}
    if data:
        found["data"] = data
    return {"jsonrpc": "2.0", "error": found, "id": id_}


def result(value: object, id_: object) -> dict[str, object]:
    return {"jsonrpc": "2.0", "result": value, "id": id_}


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ('{"jsonrpc": "2.0", "method": "subtract", "params": [42, 23], "id": 1}', result(19, 1)),
        (
            '{"jsonrpc": "2.0", "method": "subtract", "params": {"subtrahend": 23, "minuend": 42}, "id": "3"}',
            result(19, "3"),
        ),
        ('{"jsonrpc": "2.0", "method": "update", "params": [1,2,3,4,5]}', None),
        ('{"jsonrpc": "2.0", "method": "foobar", "id": "1"}', error(-32601, "Method not found", "1")),
        ('{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]', error(-32700, "Parse error")),
        (
            '{"jsonrpc": "2.0", "method": 1, "params": "bar"}',
            error(-32600, "Method must be a non-empty string", field="method"),
        ),
        (
            '[{"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"}, {"jsonrpc": "2.0", "method"]',
            error(-32700, "Parse error"),
        ),
        ("[]", error(-32600, "Empty batch")),
        ("[1]", [error(-32600, "Not a request object")]),
        ("[1,2,3]", [error(-32600, "Not a request object")] * 3),
        (
            '[{"jsonrpc":"2.0","method":"notify_sum","params":[1,2,4]},{"jsonrpc":"2.0","method":"notify_hello","params":[7]}]',
            None,
        ),
        (
            BATCH,
            [
                result(7, "1"),
                result(19, "2"),
                error(-32600, "Invalid JSON-RPC version", field="jsonrpc"),
                error(-32601, "Method not found", "5"),
                result(["hello", 5], "9"),
            ],
        ),
    ],
)
def test_the_specifications_examples(text: str, answer: object) -> None:
    """Calls, notifications, batches and each kind of error; a broken request is answered even without an id."""
    assert serve(text) == answer


def test_an_array_in_another_place_is_no_batch() -> None:
    """White space before a batch is none of its business; an object is never one."""
    call = '{"jsonrpc":"2.0","method":"get_data","id":null}'
    assert serve(f" \n[{call}]") == [result(["hello", 5], None)]
    assert serve(f" \n{call}") == result(["hello", 5], None)


@pytest.mark.parametrize(
    ("text", "code", "message", "id_"),
    [
        (b"", -32700, "Parse error", None),
        (b'{"jsonrpc":"2.0","method":"\xff","id":1}', -32700, "Parse error", None),
        (b"[" * 100_000, -32700, "Parse error", None),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, -32700, "Parse error", None),
        (b"5", -32600, "Not a request object", None),
        (b'{"jsonrpc":"1.0","method":"x","id":1}', -32600, "Invalid JSON-RPC version", 1),
        (b'{"jsonrpc":"2.0","id":1}', -32600, "Method must be a non-empty string", 1),
        (b'{"jsonrpc":"2.0","method":"","id":1}', -32600, "Method must be a non-empty string", 1),
        (b'{"jsonrpc":"2.0","method":"x","id":[1]}', -32600, "The id must be a string, a number or null", None),
        (b'{"jsonrpc":"2.0","method":"x","id":true}', -32600, "The id must be a string, a number or null", None),
        (b'{"jsonrpc":"2.0","method":"x","params":5,"id":1.5}', -32600, "Params must be an array or an object", 1.5),
    ],
)
def test_what_is_no_request_is_refused(text: bytes, code: int, message: str, id_: object) -> None:
    """With the number of the specification, and the id where it can be told."""
    answer = serve(text)
    assert (answer["error"]["code"], answer["error"]["message"], answer["id"]) == (code, message, id_)


@pytest.mark.parametrize(
    ("text", "data"),
    [
        (" " * 201, {"field": "max_text_bytes", "size": 201, "limit": 200}),
        ("[1,2,3,4]", {"field": "max_batch_items", "size": 4, "limit": 3}),
        ('{"jsonrpc":"2.0","method":"aaaaaa","id":1}', {"field": "max_method_bytes", "size": 6, "limit": 5}),
        ('{"jsonrpc":"2.0","method":"a","id":"12345"}', {"field": "max_id_bytes", "size": 7, "limit": 6}),
    ],
)
def test_limits_are_named(text: str, data: dict[str, object]) -> None:
    """Each by its field, with the size and the limit."""
    limits = JsonRpcLimits(max_text_bytes=200, max_batch_items=3, max_method_bytes=5, max_id_bytes=6)
    answer = serve(text, limits)
    assert (answer["error"]["code"], answer["error"]["data"]) == (-32600, data)


@pytest.mark.parametrize("field", ["max_text_bytes", "max_batch_items", "max_method_bytes", "max_id_bytes"])
def test_a_limit_is_more_than_nothing(field: str) -> None:
    """A configuration that admits nothing fails where it is written."""
    with pytest.raises(ValueError, match=field):
        JsonRpcLimits(**{field: 0})


@pytest.mark.parametrize(
    ("params", "input_"),
    [("[5]", b"5"), ("[[5]]", b"[5]"), ("[1, 2]", b"[1, 2]"), ("[]", None), ("null", None), ('{"a":1}', b'{"a":1}')],
)
def test_parameters_are_an_input(params: str, input_: bytes | None) -> None:
    """A single positional one is the input itself, as in the original."""
    exchange = JsonRpcExchange(f'{{"jsonrpc":"2.0","method":"x","params":{params}}}'.encode())
    assert exchange.calls == [JsonRpcCall(0, "x", input_, is_notification=True)]


@pytest.mark.parametrize(
    ("code", "number"),
    [
        ("NOT_FOUND", -32601),
        ("INVALID_ARGUMENT", -32602),
        ("VALIDATION_ERROR", -32602),
        ("INTERNAL", -32603),
        ("PERMISSION_DENIED", -32001),
        ("RESOURCE_EXHAUSTED", -32002),
        ("UNAVAILABLE", -32000),
        ("OWN", -32000),
    ],
)
def test_codes_have_numbers(code: str, number: int) -> None:
    """The specification's, then the original's, then the one for servers' errors; details are `data`."""
    exchange = JsonRpcExchange(b'{"jsonrpc":"2.0","method":"x","id":1}')
    exchange.fail(0, Status(code, "m", {"a": 1}))
    assert json.loads(exchange.text()) == error(number, "m", 1, a=1)


def test_answers_come_in_any_order_and_once() -> None:
    """The text keeps the order of the calls; who answers twice, early or nobody is told."""
    exchange = JsonRpcExchange(b'[{"jsonrpc":"2.0","method":"x","id":1},{"jsonrpc":"2.0","method":"y","id":2}]')
    exchange.respond(1, b'"b"')
    assert not exchange.is_complete
    with pytest.raises(LocalProtocolError, match="still running"):
        exchange.text()
    for number in (1, 2, -1):
        with pytest.raises(LocalProtocolError, match="has been answered"):
            exchange.respond(number)
    with pytest.raises(LocalProtocolError, match="data"):
        exchange.fail(0, Status("OWN", "", object()))
    exchange.respond(0)
    assert json.loads(exchange.text()) == [result(None, 1), result("b", 2)]


_ids = st.none() | st.integers() | st.text(max_size=5)
_calls = st.fixed_dictionaries(
    {"jsonrpc": st.just("2.0"), "method": st.text(min_size=1, max_size=5)},
    optional={"id": _ids, "params": st.lists(st.integers(), max_size=3) | st.dictionaries(st.text(), st.none())},
)


@given(st.lists(_calls, min_size=1, max_size=6))
def test_each_call_with_an_id_is_answered_once(calls: list[dict[str, Any]]) -> None:
    """In order, each with its own id; notifications have none."""
    exchange = JsonRpcExchange(json.dumps(calls).encode())
    assert [call.method for call in exchange.calls] == [call["method"] for call in calls]
    for call in reversed(exchange.calls):
        exchange.respond(call.number)
    answered = json.loads(exchange.text() or b"[]")
    assert [answer["id"] for answer in answered] == [call["id"] for call in calls if "id" in call]


@given(st.binary(max_size=100) | st.text(alphabet='[]{},:"12ajsonrpcmethdi. ', max_size=100).map(str.encode))
def test_no_text_crashes_it(text: bytes) -> None:
    """Whatever comes is calls or an answer."""
    exchange = JsonRpcExchange(text)
    for call in exchange.calls:
        exchange.fail(call.number, NOT_FOUND)
    assert exchange.is_complete
    exchange.text()
