"""One upstream that stands for every vendor: TLS under their public names, and a wary eye.

It answers 401 in the vendor's own form unless the real credential arrives, gives enough of each vendor's
real answers for the real SDKs to go on, and remembers every request it saw.
"""

from __future__ import annotations

import dataclasses
import hashlib
import pathlib
import secrets
import threading
import time

import ca
import lab
import packages
import repositories
import vendors
import wire

KEEP = 1 << 20


@dataclasses.dataclass
class Seen:
    """One request as it arrived. `body` holds its first MiB, once the handler has read that far."""

    method: str
    host: str
    target: str
    headers: list[tuple[str, str]]
    protocol: str
    connection: int
    at: float
    body: bytes = b""
    size: int = 0
    digest: object = dataclasses.field(default_factory=hashlib.sha256)
    complete: bool = False
    trailers: list[tuple[str, str]] = dataclasses.field(default_factory=list)

    def header(self, name: str, default: str = "") -> str:
        return next((v for k, v in self.headers if k.lower() == name.lower()), default)

    def holds(self, text: str) -> bool:
        """Whether `text` came with it, anywhere."""
        parts = [self.target, *(v for _, v in self.headers), *(v for _, v in self.trailers)]
        return any(text in part for part in parts) or text.encode() in self.body


class Upstream:
    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self.ca = ca.Authority(folder / "ca")
        self.secrets = {
            "github": "ghp_" + secrets.token_hex(18),
            "openai": "sk-" + secrets.token_hex(24),
            "anthropic": "sk-ant-" + secrets.token_hex(24),
            "slack": "xoxb-" + secrets.token_hex(20),
            "aws": "awst-" + secrets.token_hex(20),
            "packages": "pkgt-" + secrets.token_hex(20),
            "lab": "labk-" + secrets.token_hex(20),
        }
        self.git = repositories.Repositories(folder / "git")
        self._seen: list[Seen] = []
        self._lock = threading.Lock()
        self.stop_streams = threading.Event()
        self.server = wire.Server(self._handle)
        self.both = self.server.listen(self.ca.server_context(("h2", "http/1.1")))
        self.h1 = self.server.listen(self.ca.server_context(("http/1.1",)))
        self.h2 = wire.Gate(self.server, self.server.listen(self.ca.server_context(("h2",)))).port
        self.plain = self.server.listen()
        self.hosts = {host: self.both for host in vendors.HOSTS | packages.HOSTS | lab.HOSTS | repositories.HOSTS}
        self.hosts["h1.lab.example.test"] = self.h1
        self.hosts["h2.lab.example.test"] = self.h2

    def resolve(self) -> dict[str, str]:
        """For `upstream.resolve`: every host's address, also of those that Remit must never dial."""
        names = {host: f"127.0.0.1:{port}" for host, port in self.hosts.items()}
        # one that speaks no TLS, and one where nothing listens
        names["plain.lab.example.test"] = names["clear.lab.example.test"] = f"127.0.0.1:{self.plain}"
        names["closed.lab.example.test"] = "127.0.0.1:1"
        names["evil.example.test"] = f"127.0.0.1:{self.both}"
        return names

    def seen(self, host: str | None = None) -> list[Seen]:
        with self._lock:
            return [s for s in self._seen if host in (None, s.host)]

    def clear(self) -> None:
        with self._lock:
            self._seen.clear()

    def stop(self) -> None:
        self.server.stop()

    async def _handle(self, request: wire.Request, reply: wire.Reply) -> None:
        seen = Seen(
            request.method, request.host, request.target, list(request.headers), request.protocol, request.connection, time.monotonic()
        )
        with self._lock:
            self._seen.append(seen)
        request.body = _watched(request, request.body, seen)
        host = request.host
        for room in (vendors, packages, repositories, lab):
            if host in room.HOSTS:
                return await room.answer(self, request, reply)
        # also what was never meant to get here: it is on record
        await reply.send(200, b"reached " + host.encode(), {"content-type": "text/plain"})


async def _watched(request: wire.Request, body, seen: Seen):
    async for part in body:
        seen.size += len(part)
        seen.digest.update(part)
        if len(seen.body) < KEEP:
            seen.body += bytes(part[: KEEP - len(seen.body)])
        yield part
    seen.trailers = list(request.trailers)
    seen.complete = True
