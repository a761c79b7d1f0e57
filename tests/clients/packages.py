"""Package indexes for pip (PEP 503) and npm, whose packages are built when they are asked for."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tarfile
import urllib.parse
import zipfile

import wire

PIP, NPM = "pip.example.test", "npm.example.test"
HOSTS = {PIP, NPM}


async def answer(upstream, request: wire.Request, reply: wire.Reply) -> None:
    if request.host == PIP:
        await _pip(upstream, request, reply)
    else:
        await _npm(upstream, request, reply)


async def _pip(upstream, request: wire.Request, reply: wire.Reply) -> None:
    wanted = base64.b64encode(f"reader:{upstream.secrets['packages']}".encode()).decode()
    if request.header("authorization") != f"Basic {wanted}":
        return await reply.send(401, b"authentication required", {"www-authenticate": 'Basic realm="index"', "content-type": "text/plain"})
    match request.path.strip("/").split("/"):
        case ["simple", name]:
            file = f"{name.replace('-', '_')}-1.0.0-py3-none-any.whl"
            digest = hashlib.sha256(wheel(name)).hexdigest()
            page = f'<!DOCTYPE html><html><body><a href="/files/{name}/{file}#sha256={digest}">{file}</a></body></html>'
            await reply.send(200, page.encode(), {"content-type": "text/html"})
        case ["files", name, _]:
            await reply.send(200, wheel(name), {"content-type": "application/octet-stream"})
        case _:
            await reply.send(404, b"not found", {"content-type": "text/plain"})


def wheel(name: str) -> bytes:
    """A wheel with one module that says where it came from."""
    module = name.replace("-", "_")
    info = f"{module}-1.0.0.dist-info"
    files = {
        f"{module}.py": "FROM = 'upstream'\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for path, text in files.items():
            archive.writestr(zipfile.ZipInfo(path, (2026, 1, 1, 0, 0, 0)), text)
    return out.getvalue()


async def _npm(upstream, request: wire.Request, reply: wire.Reply) -> None:
    if request.header("authorization") != f"Bearer {upstream.secrets['packages']}":
        return await reply.send(401, b'{"error":"authentication required"}', {"content-type": "application/json"})
    name, mark, _ = urllib.parse.unquote(request.path).strip("/").partition("/-/")
    data = tarball(name)
    if mark:
        return await reply.send(200, data, {"content-type": "application/octet-stream"})
    integrity = "sha512-" + base64.b64encode(hashlib.sha512(data).digest()).decode()
    short = name.rpartition("/")[2]
    dist = {"tarball": f"https://{NPM}/{name}/-/{short}-1.0.0.tgz", "integrity": integrity, "shasum": hashlib.sha1(data).hexdigest()}
    packument = {"name": name, "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": {"name": name, "version": "1.0.0", "main": "index.js", "dist": dist}}}
    await reply.send(200, json.dumps(packument).encode(), {"content-type": "application/json"})


def tarball(name: str) -> bytes:
    files = {"package/package.json": json.dumps({"name": name, "version": "1.0.0", "main": "index.js"}), "package/index.js": "module.exports = 'upstream'\n"}
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", compresslevel=1) as archive:
        for path, text in files.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    data = bytearray(out.getvalue())
    data[4:8] = bytes(4)  # the time in gzip's header, so that two builds are equal
    return bytes(data)
