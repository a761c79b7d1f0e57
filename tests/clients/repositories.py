"""Git's smart HTTP protocol through the real `git http-backend`."""

from __future__ import annotations

import asyncio
import base64
import os
import pathlib
import subprocess

import wire

HOSTS = {"github.com"}


class Repositories:
    """Bare repositories `acme/web` (cloned and pushed to) and `acme/secret`."""

    def __init__(self, root: pathlib.Path):
        self.root = root
        self.env = {
            **{k: v for k, v in os.environ.items() if not k.startswith("GIT_")},
            "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null", "HOME": str(root),
            "GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@example.test", "GIT_COMMITTER_NAME": "t", "GIT_COMMITTER_EMAIL": "t@example.test",
        }
        seed = root / "seed"
        self.git("init", "-q", "-b", "main", str(seed))
        (seed / "README.md").write_text("A repository for tests\n")
        self.git("-C", str(seed), "add", ".")
        self.git("-C", str(seed), "commit", "-q", "-m", "Start")
        for name in ("acme/web", "acme/secret"):
            bare = self.path(name)
            self.git("clone", "-q", "--bare", str(seed), str(bare))
            self.git("-C", str(bare), "config", "http.receivepack", "true")
        exec_path = subprocess.run(["git", "--exec-path"], check=True, capture_output=True, text=True).stdout.strip()
        self.backend = os.path.join(exec_path, "git-http-backend")

    def path(self, name: str) -> pathlib.Path:
        return self.root / "bare" / f"{name}.git"

    def git(self, *args: str) -> str:
        self.root.mkdir(parents=True, exist_ok=True)
        return subprocess.run(["git", *args], check=True, capture_output=True, text=True, env=self.env).stdout.strip()

    def head(self, name: str, branch: str = "main") -> str:
        return self.git("-C", str(self.path(name)), "rev-parse", branch)


async def answer(upstream, request: wire.Request, reply: wire.Reply) -> None:
    wanted = base64.b64encode(f"x-access-token:{upstream.secrets['github']}".encode()).decode()
    if request.header("authorization") != f"Basic {wanted}":
        return await reply.send(401, b"Repository not found.\n", {"www-authenticate": 'Basic realm="GitHub"', "content-type": "text/plain"})
    await serve(upstream.git, request, reply)


async def serve(git: Repositories, request: wire.Request, reply: wire.Reply) -> None:
    """What `git http-backend` answers to whoever may ask."""
    env = {
        **git.env, "GIT_PROJECT_ROOT": str(git.root / "bare"), "GIT_HTTP_EXPORT_ALL": "1", "PATH_INFO": request.path, "REMOTE_USER": "t",
        "QUERY_STRING": request.raw_query, "REQUEST_METHOD": request.method, "CONTENT_TYPE": request.header("content-type"),
        "HTTP_CONTENT_ENCODING": request.header("content-encoding"), "GIT_PROTOCOL": request.header("git-protocol"),
    }
    if length := request.header("content-length"):
        env["CONTENT_LENGTH"] = length
    process = await asyncio.create_subprocess_exec(git.backend, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, env=env)
    feed = asyncio.create_task(_feed(request, process.stdin))
    head, status = [], 200
    while line := (await process.stdout.readline()).strip().decode():
        name, _, value = line.partition(":")
        if name.lower() == "status":
            status = int(value.split()[0])
        else:
            head.append((name, value.strip()))
    await reply.start(status, [(k, v) for k, v in head if k.lower() != "content-length"])
    while part := await process.stdout.read(65536):
        await reply.write(part)
    await feed
    await process.wait()
    await reply.end()


async def _feed(request: wire.Request, stdin: asyncio.StreamWriter) -> None:
    try:
        async for part in request.body:
            stdin.write(part)
            await stdin.drain()
    except ConnectionError:
        pass
    finally:
        stdin.close()
