"""The operations of a case: most are commands to the adapter, some go to the server past it."""

from __future__ import annotations

import http.client
import json
import re
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

import attrs
import trio

from tests.interop.durable.adapter_process import AdapterProcess, Message
from tests.interop.durable.client_cases import Operation
from tests.interop.durable.client_expectations import Unmet

Step: TypeAlias = Callable[[Operation], Awaitable[Message | None]]

REQUEST_TIMEOUT: Final = 30

PASSED_ON: Final = {
    "create": ("contentType", "ttlSeconds", "expiresAt", "headers", "closed", "data"),
    "connect": ("headers",),
    "read": ("live", "timeoutMs", "maxChunks", "waitForUpToDate", "headers"),
    "head": ("headers",),
    "delete": ("headers",),
    "close": ("data", "contentType"),
    "idempotent-append": ("producerId", "headers"),
    "idempotent-append-batch": ("producerId", "maxInFlight", "headers"),
    "idempotent-close": ("producerId", "headers"),
    "idempotent-detach": ("producerId", "headers"),
    "set-dynamic-header": ("name", "valueType", "initialValue"),
    "set-dynamic-param": ("name", "valueType"),
    "clear-dynamic": (),
    "validate": ("target",),
}
"""The fields of an operation that are its command's fields as they are."""

FAULTS: Final = "/_test/inject-error"
"""Where the published server is told to make faults; it is asked without a path."""
FAULT_FIELDS: Final = (
    "status", "retryAfter", "delayMs", "dropConnection", "truncateBodyBytes", "probability", "method", "corruptBody",
    "jitterMs", "injectSseEvent",
)  # fmt: skip


@attrs.define
class Steps:
    """Carries out the operations of one case.

    Attributes:
      adapter: of the client under test.
      server_url: of the server that it was told.
      nursery: where reads in the background run.
      variables: what earlier operations have kept.
    """

    adapter: AdapterProcess
    server_url: str
    nursery: trio.Nursery
    variables: dict[str, Any] = attrs.Factory(dict)
    _background: dict[str, trio.MemoryReceiveChannel[Message]] = attrs.Factory(dict)

    async def run(self, operation: Operation) -> Message | None:
        """The answer that an operation brings, if it is one that does.

        Raises:
          Unmet: an assertion does not hold, or the server refused a fault.
        """
        own: dict[str, Step] = {
            "append": self._append,
            "append-batch": self._append_batch,
            "server-append": self._server_append,
            "server-close": self._server_close,
            "inject-error": self._inject_error,
            "clear-errors": self._clear_errors,
            "wait": self._wait,
            "set": self._set,
            "assert": self._assert,
            "await": self._await,
        }
        action = operation["action"]
        if action == "read" and operation.get("background"):
            await self._read_behind(operation)
            return None
        return await own.get(action, self._command)(operation)

    def resolve(self, text: str) -> str:
        """The text with every `${name}` and `${name.field}` replaced; a name that nobody has kept is an error."""
        return re.sub(r"\$\{([^}]+)\}", lambda found: self._variable(found[1]), text)

    def _variable(self, expression: str) -> str:
        if expression == "randomUUID":
            return str(uuid.uuid4())
        name, *fields = expression.split(".")
        value = self.variables[name]
        for field in fields:
            value = value[field]
        return str(value)

    def _path(self, operation: Operation) -> str:
        return self.resolve(operation["path"]) if "path" in operation else f"/stream-{uuid.uuid4()}"

    async def _command(self, operation: Operation) -> Message:
        action = operation["action"]
        command = {"type": action} | {name: operation.get(name) for name in PASSED_ON[action]}
        if action not in {"set-dynamic-header", "set-dynamic-param", "clear-dynamic", "validate"}:
            command["path"] = self._path(operation)
        if action == "create" and "as" in operation:
            self.variables[operation["as"]] = command["path"]
        if action == "read" and operation.get("offset"):
            command["offset"] = self.resolve(operation["offset"])
        if action.startswith("idempotent-"):
            command["epoch"] = operation.get("epoch", 0)
            command["autoClaim"] = operation.get("autoClaim", False)
            if "data" in operation:
                command["data"] = self.resolve(operation["data"])
            if "items" in operation:
                command["items"] = [self.resolve(item["data"]) for item in operation["items"]]
        return await self.adapter.ask(command)

    async def _read_behind(self, operation: Operation) -> None:
        send, self._background[operation["as"]] = trio.open_memory_channel[Message](1)

        async def read() -> None:
            await send.send(await self._command(operation))

        self.nursery.start_soon(read)

    async def _await(self, operation: Operation) -> Message:
        return await self._background.pop(operation["ref"]).receive()

    async def _append(self, operation: Operation) -> Message:
        if "json" in operation:
            data = json.dumps(operation["json"], separators=(",", ":"), ensure_ascii=False)
        else:
            data = self.resolve(operation.get("data", ""))
        return await self._append_one(self._path(operation), operation | {"data": data})

    async def _append_one(self, path: str, item: Operation) -> Message:
        binary = item.get("binaryData")
        command = {"type": "append", "path": path, "data": binary or item.get("data", ""), "binary": bool(binary)}
        return await self.adapter.ask(command | {"seq": item.get("seq"), "headers": item.get("headers")})

    async def _append_batch(self, operation: Operation) -> Message:
        path = self._path(operation)
        headers = {"headers": operation.get("headers")}
        succeeded = [(await self._append_one(path, item | headers))["success"] for item in operation["items"]]
        return {"type": "append", "success": all(succeeded), "succeeded": succeeded}

    async def _server_append(self, operation: Operation) -> Message:
        path = self._path(operation)
        _, known = await self._request("HEAD", path, {}, None)
        headers = {"content-type": known.get("content-type") or "application/octet-stream"}
        headers |= operation.get("headers") or {}
        for name, field in (
            ("Producer-Id", "producerId"),
            ("Producer-Epoch", "producerEpoch"),
            ("Producer-Seq", "producerSeq"),
        ):
            if field in operation:
                headers[name] = str(operation[field])
        status, answer = await self._request("POST", path, headers, self.resolve(operation["data"]))
        # Whatever the server says is an answer: the status is what is judged.
        result: Message = {"type": "append", "success": True, "status": status, "duplicate": status == 204}
        result["offset"] = answer.get("stream-next-offset")
        for name in ("Epoch", "Seq", "Expected-Seq", "Received-Seq"):
            if (value := answer.get(f"producer-{name.lower()}")) is not None:
                result["producer" + name.replace("-", "")] = int(value)
        return result

    async def _server_close(self, operation: Operation) -> Message:
        headers = {"Stream-Closed": "true"} | (operation.get("headers") or {})
        if "data" in operation and "contentType" in operation:
            headers["content-type"] = operation["contentType"]
        status, answer = await self._request("POST", self._path(operation), headers, operation.get("data"))
        return {"type": "close", "success": status < 400, "finalOffset": answer.get("stream-next-offset", "")}

    async def _inject_error(self, operation: Operation) -> None:
        fault: Operation = {name: operation[name] for name in FAULT_FIELDS if name in operation}
        fault |= {"path": self._path(operation), "count": operation.get("count", 1)}
        headers = {"content-type": "application/json"}
        status, _ = await self._request("POST", FAULTS, headers, json.dumps(fault))
        if status >= 400:
            raise Unmet(f"the server took no fault: {status}")

    async def _clear_errors(self, operation: Operation) -> None:
        await self._request("DELETE", FAULTS, {}, None)

    async def _wait(self, operation: Operation) -> None:
        await trio.sleep(operation["ms"] / 1000)

    async def _set(self, operation: Operation) -> None:
        self.variables[operation["name"]] = self.resolve(operation["value"])

    async def _assert(self, operation: Operation) -> None:
        def sides(kind: str, *names: str) -> list[str]:
            return [self.resolve(operation[kind][name]) for name in names]

        holds = True
        if "equals" in operation:
            left, right = sides("equals", "left", "right")
            holds = left == right
        if "notEquals" in operation:
            left, right = sides("notEquals", "left", "right")
            holds = holds and left != right
        if "contains" in operation:
            value, part = sides("contains", "value", "substring")
            holds = holds and part in value
        if "matches" in operation:
            (value,) = sides("matches", "value")
            holds = holds and re.search(operation["matches"]["pattern"], value) is not None
        if not holds:
            raise Unmet(f"{operation} does not hold with {self.variables}")

    async def _request(
        self, method: str, path: str, headers: dict[str, str], body: str | None
    ) -> tuple[int, dict[str, str]]:
        """The status and the headers, in lower case, of a request that goes past the adapter."""

        def blocking() -> tuple[int, dict[str, str]]:
            parts = urlsplit(self.server_url)
            connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=REQUEST_TIMEOUT)
            try:
                connection.request(method, parts.path + path, None if body is None else body.encode(), headers)
                answer = connection.getresponse()
                answer.read()
                return answer.status, {name.lower(): value for name, value in answer.getheaders()}
            finally:
                connection.close()

        return await trio.to_thread.run_sync(blocking)
