"""A corporate proxy for tests: CONNECT and nothing else, with a password, and a list of what it was asked for."""

from __future__ import annotations

import asyncio
import base64

import wire


class Relay:
    """Carries every CONNECT to `address`, whatever name was asked for."""

    def __init__(self, port: int, user: str = "", password: str = ""):
        self.asked: list[tuple[str, bool]] = []
        self._to = port
        self._wanted = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode() if user else ""
        self.server = wire.Server(self._handle)
        self.port = self.server.listen()

    def stop(self) -> None:
        self.server.stop()

    async def _handle(self, request: wire.Request, reply: wire.Reply) -> None:
        good = not self._wanted or request.header("proxy-authorization") == self._wanted
        self.asked.append((request.target, good))
        if not good or request.method != "CONNECT":
            return await reply.send(407 if not good else 405, b"", {"proxy-authenticate": "Basic"})
        reader, writer = await asyncio.open_connection("127.0.0.1", self._to)
        reply.upgraded = True
        request.writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await request.writer.drain()
        await asyncio.gather(wire.pump(request.reader, writer), wire.pump(reader, request.writer), return_exceptions=True)

