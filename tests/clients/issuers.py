"""What the fakes of credential issuers share: one server for all their names, and how they misbehave when told to."""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import http.client
import json
import pathlib
import socket
import ssl
import time
import urllib.parse

import ca
import wire
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from upstream import Seen


class Refused(Exception):
    """A request that the issuer does not take: status, and its words."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status, self.message = status, message


class Fake:
    """Serves every host of `HOSTS` over TLS; `answer` of a subclass does the rest. `workspace.Workspace` takes it for an upstream."""

    HOSTS: tuple[str, ...] = ()

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self.ca = ca.Authority(folder / "ca")
        self.secrets: dict[str, str] = {}
        self.ahead = 0  # seconds that its clock is ahead
        self.broken: str | None = None  # how the issuer misbehaves
        self._seen: list[Seen] = []
        self.server = wire.Server(self._handle)
        self.port = self.server.listen(self.ca.server_context(("http/1.1",)))

    def resolve(self) -> dict[str, str]:
        return {host: f"127.0.0.1:{self.port}" for host in self.HOSTS}

    def now(self) -> int:
        return int(time.time()) + self.ahead

    def stamp(self, seconds: int) -> str:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.now() + seconds))

    def seen(self, host: str | None = None, part: str = "") -> list[Seen]:
        return [s for s in list(self._seen) if host in (None, s.host) and part in s.target]

    def clear(self) -> None:
        self._seen.clear()

    def stop(self) -> None:
        self.server.stop()

    def asked(self, method: str, host: str, path: str, headers: dict[str, str], body: str | None = None) -> tuple[int, str]:
        """One request past Remit, as whoever got hold of something would send it."""
        context = ssl.create_default_context(cafile=str(self.ca.pem))
        connection = http.client.HTTPSConnection(host, timeout=10)
        connection.sock = context.wrap_socket(socket.create_connection(("127.0.0.1", self.port)), server_hostname=host)
        with contextlib.closing(connection):
            connection.putrequest(method, path, skip_accept_encoding=True)
            data = body.encode() if body is not None else b""
            for name, value in {**headers, "content-length": str(len(data))}.items():
                connection.putheader(name, value)
            connection.endheaders(data)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

    async def answer(self, request: wire.Request, reply: wire.Reply, body: bytes) -> None:
        raise NotImplementedError

    async def json(self, reply: wire.Reply, status: int, value, **headers: str) -> None:
        date = email.utils.formatdate(self.now(), usegmt=True)
        text = json.dumps(value).encode() if value is not None else b""
        await reply.send(status, text, {"content-type": "application/json", "date": date, **headers})

    async def misbehave(self, reply: wire.Reply) -> bool:
        """What an issuer should not do, if it is to; whether it did."""
        match self.broken:
            case "redirects":
                await reply.send(302, b"", {"location": "https://elsewhere.example.test/token"})
            case "answers 10 MiB":
                await reply.send(200, b" " * (10 << 20), {"content-type": "application/json"})
            case "answers nonsense":
                await reply.send(200, b"<html>Welcome</html>", {"content-type": "text/html"})
            case "is slow":
                await asyncio.sleep(30)
                await reply.send(200, b"{}")
            case "fails":
                await reply.send(503, b"{}")
            case "hangs up":
                raise wire.Gone("as told")
            case _:
                return False
        return True

    async def _handle(self, request: wire.Request, reply: wire.Reply) -> None:
        seen = Seen(request.method, request.host, request.target, list(request.headers), request.protocol, request.connection, time.monotonic())
        self._seen.append(seen)
        if self.streams(request):
            return await self.answer(request, reply, b"")
        seen.body = await request.read()
        seen.complete = True
        await self.answer(request, reply, seen.body)

    def streams(self, request: wire.Request) -> bool:
        """Whether the handler reads the body itself."""
        return False


def form(body: bytes) -> dict[str, str]:
    pairs = urllib.parse.parse_qsl(body.decode(), keep_blank_values=True, strict_parsing=True) if body else []
    if len(dict(pairs)) != len(pairs):
        raise Refused(400, "a parameter is repeated")
    return dict(pairs)


def rsa_pem(bits: int = 2048, pkcs1: bool = False) -> tuple[str, rsa.RSAPublicKey]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=bits)
    return _pem(key, pkcs1), key.public_key()


def ec_pem() -> str:
    return _pem(ec.generate_private_key(ec.SECP256R1()), False)


def _pem(key, pkcs1: bool) -> str:
    form = serialization.PrivateFormat.TraditionalOpenSSL if pkcs1 else serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()
