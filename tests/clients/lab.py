"""An API that does everything an HTTP API may do, for what no vendor's API would do on request."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import json
import struct
import zlib

import wire

# serves what the API sends its clients to fetch, to whoever has the URL, and takes no key
FILES = "files.lab.example.test"
HOSTS = {"lab.example.test", "h1.lab.example.test", "h2.lab.example.test", "plain.lab.example.test", "other.lab.example.test", FILES}
ZEROS = bytes(1 << 20)


async def answer(upstream, request: wire.Request, reply: wire.Reply) -> None:
    secret = upstream.secrets["lab"]
    if request.host == FILES:
        keyless = request.query.get("X-Amz-Signature") == "c2lnbmVk" and not any(request.header(f) for f in ("authorization", "x-api-key", "cookie"))
        return await reply.send(200 if keyless else 403, b"the file\n", {"content-type": "text/plain"})
    if request.header("x-api-key") != secret:
        return await reply.send(401, b'{"error":"who are you"}', {"content-type": "application/json"})
    first, *rest = request.path.strip("/").split("/")
    handler = _ROUTES.get(first.replace(".", "_").replace("-", "_"))
    if handler is None:
        return await reply.send(404, b"no such thing", {"content-type": "text/plain"})
    await handler(upstream, request, reply, rest, secret)


async def _echo(upstream, request, reply, rest, secret):
    """All that arrived, credential and all: what comes back must be scrubbed."""
    body = await request.read()
    value = {"method": request.method, "target": request.target, "headers": request.headers, "protocol": request.protocol, "bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}
    await reply.send(200, json.dumps(value).encode(), {"content-type": "application/json"})


async def _leak(upstream, request, reply, rest, secret):
    """The credential, in the form that the path names."""
    raw = f"the key is {secret} and no other\n".encode()
    match rest[0]:
        case "header":
            await reply.send(200, b"see the head\n", {"content-type": "text/plain", "x-your-key": secret, "x-basic": base64.b64encode(secret.encode()).decode()})
        case "gzip":
            await reply.send(200, gzip.compress(raw), {"content-type": "text/plain", "content-encoding": "gzip"})
        case "deflate":
            await reply.send(200, zlib.compress(raw), {"content-type": "text/plain", "content-encoding": "deflate"})
        case "base64":
            await reply.send(200, b"key " + base64.b64encode(secret.encode()) + b"\n", {"content-type": "text/plain"})
        case "split":
            await reply.start(200, {"content-type": "text/plain"})
            for byte in raw:
                await reply.write(bytes([byte]))
                await asyncio.sleep(0.002)
            await reply.end()
        case "trailer":
            await reply.start(200, {"content-type": "text/plain", "trailer": "x-your-key"})
            await reply.write(b"see the tail\n")
            await reply.end([("x-your-key", secret)])
        case "cookie":
            await reply.send(200, b"ok\n", [("content-type", "text/plain"), ("set-cookie", f"session={secret}; Secure"), ("set-cookie", "session2=abc")])
        case "location":
            await reply.send(302, b"", {"location": f"https://lab.example.test/echo?token={secret}"})
        case _:
            await reply.send(200, raw, {"content-type": "text/plain"})


async def _ticks(upstream, request, reply, rest, secret):
    """Server-sent events, `n` of them, `ms` apart; each says when it left."""
    count, pause = int(request.query.get("n", 5)), int(request.query.get("ms", 200)) / 1000
    await reply.start(200, {"content-type": "text/event-stream", "cache-control": "no-cache"})
    loop = asyncio.get_running_loop()
    for number in range(count):
        await reply.write(f"data: {number} {loop.time()}\n\n".encode())
        await asyncio.sleep(pause)
    await reply.end()


async def _zeros(upstream, request, reply, rest, secret):
    left = int(request.query["bytes"])
    headers = {"content-type": "application/octet-stream"}
    if "chunked" not in request.query:
        headers["content-length"] = str(left)
    await reply.start(200, headers)
    while left:
        part = ZEROS[: min(left, len(ZEROS))]
        await reply.write(part)
        left -= len(part)
    await reply.end()


async def _trailers(upstream, request, reply, rest, secret):
    await reply.start(200, {"content-type": "text/plain", "trailer": "x-checksum"})
    await reply.write(b"body\n")
    await reply.end([("x-checksum", hashlib.sha256(b"body\n").hexdigest())])


async def _sink(upstream, request, reply, rest, secret):
    """Takes a body of any size, gives its size, digest and trailers."""
    digest, size = hashlib.sha256(), 0
    async for part in request.body:
        digest.update(part)
        size += len(part)
    value = {"bytes": size, "sha256": digest.hexdigest(), "trailers": request.trailers, "protocol": request.protocol}
    await reply.send(200, json.dumps(value).encode(), {"content-type": "application/json"})


async def _drip(upstream, request, reply, rest, secret):
    """Gives back each part of the body as it arrives."""
    await reply.start(200, {"content-type": "application/octet-stream"})
    async for part in request.body:
        await reply.write(part)
    await reply.end()


async def _hang(upstream, request, reply, rest, secret):
    await asyncio.sleep(float(request.query.get("s", 600)))
    await reply.send(200, b"at last\n", {"content-type": "text/plain"})


async def _stall(upstream, request, reply, rest, secret):
    """A head and a first byte, and then nothing."""
    await reply.start(200, {"content-type": "text/plain"})
    await reply.write(b"x")
    await asyncio.sleep(float(request.query.get("s", 600)))
    await reply.end()


async def _close(upstream, request, reply, rest, secret):
    raise wire.Gone("as asked")


async def _early(upstream, request, reply, rest, secret):
    """Answers before it reads the body."""
    await reply.send(413, b"too much\n", {"content-type": "text/plain", "connection": "close"})


async def _status(upstream, request, reply, rest, secret):
    await request.read()
    await reply.send(int(rest[0]), b"" if rest[0] in ("204", "304") else b"as asked\n", {"content-type": "text/plain"})


async def _redirect(upstream, request, reply, rest, secret):
    await reply.send(302, b"", {"location": request.query["to"]})


async def _both_lengths(upstream, request, reply, rest, secret):
    """An answer that can be read two ways: Content-Length and chunked."""
    if request.protocol != "h1":
        return await reply.send(400, b"only over HTTP/1.1\n")
    request.writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
    await request.writer.drain()
    reply.started = reply.ended = reply.close = True


# WebSocket (RFC 6455), enough to echo


async def _ws(upstream, request, reply, rest, secret):
    if request.header("upgrade").lower() != "websocket":
        return await reply.send(426, b"websocket only\n", {"content-type": "text/plain"})
    accept = base64.b64encode(hashlib.sha1(request.header("sec-websocket-key").encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    await reply.start(101, {"upgrade": "websocket", "connection": "Upgrade", "sec-websocket-accept": accept.decode()})
    while True:
        first, second = await request.reader.readexactly(2)
        size = second & 0x7F
        if size == 126:
            (size,) = struct.unpack("!H", await request.reader.readexactly(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", await request.reader.readexactly(8))
        mask = await request.reader.readexactly(4)
        data = bytes(b ^ mask[i % 4] for i, b in enumerate(await request.reader.readexactly(size)))
        opcode = first & 0x0F
        if opcode == 9:
            first = 0x8A
        head = bytes([first]) + (bytes([len(data)]) if len(data) < 126 else b"\x7e" + struct.pack("!H", len(data)))
        request.writer.write(head + data)
        await request.writer.drain()
        if opcode == 8:
            return


# gRPC: echoes each message


async def _lab_Echo(upstream, request, reply, rest, secret):
    await reply.start(200, {"content-type": "application/grpc", "grpc-encoding": "identity"})
    held = b""
    async for part in request.body:
        held += part
        while len(held) >= 5 and len(held) >= 5 + (size := int.from_bytes(held[1:5])):
            await reply.write(held[: 5 + size])
            held = held[5 + size :]
    await reply.end([("grpc-status", "0"), ("grpc-message", "")])


_ROUTES = {name.removeprefix("_"): f for name, f in list(globals().items()) if name.startswith("_") and asyncio.iscoroutinefunction(f)}
