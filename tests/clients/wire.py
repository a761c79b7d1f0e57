"""A small HTTP/1.1 and HTTP/2 server for tests: every byte of an exchange is in the handler's hand.

One handler serves both protocols: `await handler(request, reply)`. Bodies are streams both ways, trailers
too, and HTTP/1.1 sends `100 Continue` only when the handler first reads the body.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import ssl
import threading
import urllib.parse
from collections.abc import AsyncIterator, Awaitable, Callable

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions

CHUNK = 256 * 1024


class Gone(Exception):
    """The peer went away, or broke the protocol."""


@dataclasses.dataclass
class Request:
    method: str
    target: str
    headers: list[tuple[str, str]]
    protocol: str
    connection: int
    body: AsyncIterator[bytes]
    trailers: list[tuple[str, str]] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        split = urllib.parse.urlsplit(self.target)
        self.path = split.path
        self.query = dict(urllib.parse.parse_qsl(split.query, keep_blank_values=True))
        self.raw_query = split.query

    def header(self, name: str, default: str = "") -> str:
        return next((v for k, v in self.headers if k.lower() == name.lower()), default)

    @property
    def host(self) -> str:
        return self.header("host").rsplit(":", 1)[0]

    async def read(self, limit: int = 64 << 20) -> bytes:
        parts, size = [], 0
        async for part in self.body:
            size += len(part)
            if size > limit:
                raise Gone("request body too large for the test's handler")
            parts.append(part)
        return b"".join(parts)


Handler = Callable[[Request, "Reply"], Awaitable[None]]


class Reply:
    """What a handler answers with; one subclass for each protocol."""

    started = False
    ended = False

    async def start(self, status: int, headers: dict[str, str] | list[tuple[str, str]] = (), reason: str | None = None) -> None:
        raise NotImplementedError

    async def write(self, data: bytes) -> None:
        raise NotImplementedError

    async def end(self, trailers: list[tuple[str, str]] = ()) -> None:
        raise NotImplementedError

    async def send(self, status: int, body: bytes = b"", headers: dict[str, str] | list[tuple[str, str]] = (), reason: str | None = None) -> None:
        """The whole answer at once."""
        fields = list(headers.items()) if isinstance(headers, dict) else list(headers)
        fields.append(("content-length", str(len(body))))
        await self.start(status, fields, reason)
        if body:
            await self.write(body)
        await self.end()


class Server:
    """Serves `handler` on a thread of its own, on any number of loopback ports."""

    def __init__(self, handler: Handler):
        self.handler = handler
        self.loop = asyncio.new_event_loop()
        self.open_connections: set[int] = set()
        self.accepted = 0
        self._numbers = itertools.count(1)
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True, name="upstream")
        self._thread.start()
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task] = set()

    def listen(self, tls: ssl.SSLContext | None = None, port: int = 0) -> int:
        """Opens one more port; `tls` decides by ALPN which protocols it speaks."""

        async def start() -> int:
            server = await asyncio.start_server(self._accept, "127.0.0.1", port, ssl=tls, limit=1 << 20, backlog=1024)
            self._servers.append(server)
            return server.sockets[0].getsockname()[1]

        return self.run(start())

    def run(self, work: Awaitable):
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    def stop(self) -> None:
        async def close() -> None:
            for server in self._servers:
                server.close()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

        self.run(close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = next(self._numbers)
        self.accepted += 1
        self.open_connections.add(number)
        task = asyncio.current_task()
        self._tasks.add(task)
        tls = writer.get_extra_info("ssl_object")
        try:
            if tls is not None and tls.selected_alpn_protocol() == "h2":
                await _H2(self.handler, reader, writer, number).serve()
            else:
                await _serve_h1(self.handler, reader, writer, number)
        except (Gone, ConnectionError, asyncio.IncompleteReadError, ssl.SSLError, asyncio.CancelledError, TimeoutError):
            pass
        finally:
            self.open_connections.discard(number)
            self._tasks.discard(task)
            writer.close()


# HTTP/1.1


async def _serve_h1(handler: Handler, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
    while True:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError as e:
            raise Gone("head too large") from e
        line, *fields = head[:-4].decode("latin-1").split("\r\n")
        method, target, version = line.split(" ")
        headers = [(k.strip(), v.strip()) for k, _, v in (f.partition(":") for f in fields)]
        request = Request(method, target, headers, "h1", number, iter_nothing())
        request.body = _h1_body(request, reader, writer)
        request.reader, request.writer = reader, writer  # for upgrades
        reply = _H1Reply(writer, request)
        await handler(request, reply)
        if reply.upgraded or not reply.ended:
            return
        async for _ in request.body:
            pass
        if request.header("connection").lower() == "close" or version == "HTTP/1.0" or reply.close:
            return


class Gate:
    """A port before another that takes only clients which offer h2, as RFC 7301 §3.2 wants: others get the
    alert no_application_protocol, which Python's own TLS never sends."""

    ALERT = bytes([21, 3, 3, 0, 2, 2, 120])

    def __init__(self, server: Server, behind: int):
        self._behind = behind

        async def start() -> int:
            listener = await asyncio.start_server(self._accept, "127.0.0.1", 0, backlog=1024)
            server._servers.append(listener)
            return listener.sockets[0].getsockname()[1]

        self.port = server.run(start())

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            record = await reader.readexactly(5)
            hello = await reader.readexactly(int.from_bytes(record[3:5]))
            if b"\x02h2" not in hello:
                writer.write(self.ALERT)
                return await writer.drain()
            inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self._behind)
            inner_writer.write(record + hello)
            await asyncio.gather(pump(reader, inner_writer), pump(inner_reader, writer), return_exceptions=True)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carries bytes one way, to the end."""
    try:
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


async def iter_nothing() -> AsyncIterator[bytes]:
    return
    yield b""


async def _h1_body(request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> AsyncIterator[bytes]:
    chunked = "chunked" in request.header("transfer-encoding").lower()
    length = int(request.header("content-length") or 0)
    if (chunked or length) and request.header("expect").lower() == "100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await writer.drain()
    if not chunked:
        while length:
            part = await reader.read(min(length, CHUNK))
            if not part:
                raise Gone("request body cut short")
            length -= len(part)
            yield part
        return
    while True:
        size = int((await reader.readline()).split(b";")[0], 16)
        if size == 0:
            break
        while size:
            part = await reader.read(min(size, CHUNK))
            if not part:
                raise Gone("request body cut short")
            size -= len(part)
            yield part
        await reader.readexactly(2)
    while line := (await reader.readline()).strip():
        name, _, value = line.decode("latin-1").partition(":")
        request.trailers.append((name.strip(), value.strip()))


class _H1Reply(Reply):
    def __init__(self, writer: asyncio.StreamWriter, request: Request):
        self.writer, self.request = writer, request
        self.chunked = self.upgraded = self.close = False

    async def start(self, status, headers=(), reason=None):
        fields = list(headers.items()) if isinstance(headers, dict) else list(headers)
        names = {k.lower() for k, _ in fields}
        bodiless = status in (101, 204, 304) or self.request.method == "HEAD"
        self.upgraded = status == 101
        self.close = any(k.lower() == "connection" and v.lower() == "close" for k, v in fields)
        self.chunked = not bodiless and "content-length" not in names and not (self.close and "x-until-close" in names)
        if self.chunked:
            fields.append(("transfer-encoding", "chunked"))
        lines = [f"HTTP/1.1 {status} {reason or _REASONS.get(status, 'Status')}"] + [f"{k}: {v}" for k, v in fields]
        self.writer.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
        self.started = True
        await self.writer.drain()

    async def write(self, data):
        if not data or self.request.method == "HEAD":
            return
        self.writer.write(b"%x\r\n%b\r\n" % (len(data), data) if self.chunked else data)
        await self.writer.drain()

    async def end(self, trailers=()):
        if self.chunked:
            lines = "".join(f"{k}: {v}\r\n" for k, v in trailers)
            self.writer.write(f"0\r\n{lines}\r\n".encode("latin-1"))
        await self.writer.drain()
        self.ended = True


_REASONS = {
    100: "Continue", 101: "Switching Protocols", 200: "OK", 201: "Created", 204: "No Content", 301: "Moved Permanently",
    302: "Found", 304: "Not Modified", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found",
    407: "Proxy Authentication Required", 413: "Content Too Large", 421: "Misdirected Request", 429: "Too Many Requests",
    500: "Internal Server Error", 502: "Bad Gateway", 503: "Service Unavailable", 504: "Gateway Timeout",
}


# HTTP/2


class _H2:
    def __init__(self, handler: Handler, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int):
        self.handler, self.reader, self.writer, self.number = handler, reader, writer, number
        config = h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
        self.connection = h2.connection.H2Connection(config)
        self.streams: dict[int, _H2Reply] = {}
        self.room = asyncio.Condition()
        self.tasks: set[asyncio.Task] = set()

    async def serve(self) -> None:
        self.connection.initiate_connection()
        self.connection.increment_flow_control_window((1 << 24))
        await self.flush()
        try:
            while data := await self.reader.read(CHUNK):
                for event in self.connection.receive_data(data):
                    await self.on(event)
                await self.flush()
        except h2.exceptions.ProtocolError as e:
            await self.flush()
            raise Gone("protocol error") from e
        finally:
            for stream in self.streams.values():
                stream.incoming.put_nowait(Gone("connection closed"))
                stream.gone = True
            async with self.room:
                self.room.notify_all()
            for task in self.tasks:
                task.cancel()

    async def on(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.RequestReceived():
                self.begin(event)
            case h2.events.DataReceived():
                if stream := self.streams.get(event.stream_id):
                    stream.incoming.put_nowait((event.data, event.flow_controlled_length))
                else:
                    self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case h2.events.TrailersReceived():
                if stream := self.streams.get(event.stream_id):
                    stream.request.trailers.extend(event.headers)
            case h2.events.StreamEnded():
                if stream := self.streams.get(event.stream_id):
                    stream.incoming.put_nowait(None)
            case h2.events.StreamReset():
                if stream := self.streams.get(event.stream_id):
                    stream.gone = True
                    stream.incoming.put_nowait(Gone("stream reset"))
                async with self.room:
                    self.room.notify_all()
            case h2.events.WindowUpdated() | h2.events.RemoteSettingsChanged():
                async with self.room:
                    self.room.notify_all()
            case h2.events.ConnectionTerminated():
                pass

    def begin(self, event: h2.events.RequestReceived) -> None:
        pseudo = {k: v for k, v in event.headers if k.startswith(":")}
        headers = [(k, v) for k, v in event.headers if not k.startswith(":")]
        if not any(k == "host" for k, _ in headers):
            headers.append(("host", pseudo.get(":authority", "")))
        request = Request(pseudo[":method"], pseudo[":path"], headers, "h2", self.number, iter_nothing())
        reply = _H2Reply(self, event.stream_id, request)
        request.body = reply.body()
        self.streams[event.stream_id] = reply
        task = asyncio.create_task(self.call(request, reply))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def call(self, request: Request, reply: _H2Reply) -> None:
        try:
            await self.handler(request, reply)
            if not reply.ended:
                self.connection.reset_stream(reply.stream, h2.errors.ErrorCodes.INTERNAL_ERROR)
                await self.flush()
        except (Gone, ConnectionError, h2.exceptions.ProtocolError):
            with contextlib.suppress(ConnectionError, h2.exceptions.ProtocolError):
                self.connection.reset_stream(reply.stream, h2.errors.ErrorCodes.INTERNAL_ERROR)
                await self.flush()
        finally:
            self.streams.pop(reply.stream, None)

    async def flush(self) -> None:
        if data := self.connection.data_to_send():
            self.writer.write(data)
            await self.writer.drain()


class _H2Reply(Reply):
    upgraded = False

    def __init__(self, h2: _H2, stream: int, request: Request):
        self.h2, self.stream, self.request = h2, stream, request
        self.incoming: asyncio.Queue = asyncio.Queue()
        self.gone = False

    async def body(self) -> AsyncIterator[bytes]:
        while (item := await self.incoming.get()) is not None:
            if isinstance(item, Gone):
                raise item
            data, credit = item
            if credit:
                self.h2.connection.acknowledge_received_data(credit, self.stream)
                await self.h2.flush()
            yield data

    async def start(self, status, headers=(), reason=None):
        fields = list(headers.items()) if isinstance(headers, dict) else list(headers)
        fields = [(k.lower(), v) for k, v in fields if k.lower() != "connection"]
        self.h2.connection.send_headers(self.stream, [(":status", str(status)), *fields])
        self.started = True
        await self.h2.flush()

    async def write(self, data):
        view = memoryview(data)
        while view and self.request.method != "HEAD":
            async with self.h2.room:
                await self.h2.room.wait_for(lambda: self.gone or self.h2.connection.local_flow_control_window(self.stream) > 0)
            if self.gone:
                raise Gone("stream reset")
            size = min(self.h2.connection.local_flow_control_window(self.stream), self.h2.connection.max_outbound_frame_size, len(view))
            self.h2.connection.send_data(self.stream, bytes(view[:size]))
            view = view[size:]
            await self.h2.flush()

    async def end(self, trailers=()):
        if trailers:
            self.h2.connection.send_headers(self.stream, list(trailers), end_stream=True)
        else:
            self.h2.connection.end_stream(self.stream)
        await self.h2.flush()
        self.ended = True
