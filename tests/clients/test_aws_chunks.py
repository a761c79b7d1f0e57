"""Bodies whose chunks the agent signed with a placeholder: signed anew on their way, as two verifiers see it; and `rclone` on both sides."""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
import time
import zlib

import agent
import aws_server
import pytest
import workspace as ws
from aws_lab import BOTO, EVERY_WAY, KEYS_KEPT, RCLONE, REGISTRY, S3, STS, signed_by

SIGNATURE = "0" * 64
BIG = os.urandom(1 << 20) * 3


def chunked(data: bytes, size: int = 64 << 10, trailer: bytes = b"") -> bytes:
    """As SDKs frame a body, with signatures of nobody."""
    parts = [data[i : i + size] for i in range(0, len(data), size)] + [b""]
    out = b"".join(b"%x;chunk-signature=%s\r\n%s" % (len(p), SIGNATURE.encode(), p + b"\r\n" if p else b"") for p in parts)
    return out + trailer + b"\r\n"


def fields(data: bytes, word: str, **more: str) -> dict[str, str]:
    return {"x-amz-content-sha256": word, "content-encoding": "aws-chunked", "x-amz-decoded-content-length": str(len(data)), **more}


WORD = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"


@pytest.fixture
def serving(work_aws):
    with work_aws.serve(credential=STS) as running:
        yield running


def test_signed_chunks_are_signed_anew(serving, aws):
    task = serving.task()
    for number, (data, size) in enumerate([(BIG, 64 << 10), (BIG, 1 << 20), (b"small", 64 << 10), (b"", 10)]):
        answer = serving.call(task, "PUT", S3, f"/acme/chunks-{number}", fields(data, WORD), chunked(data, size))
        assert answer.status == 200, answer.body
        assert aws.object(f"chunks-{number}") == data
    bodies = [s["body"] for s in aws.seen if s["method"] == "PUT"]
    assert len(bodies[0]) == len(chunked(BIG)) and SIGNATURE.encode() not in b"".join(bodies)


def test_a_signed_checksum_after_the_chunks_is_signed_anew(serving, aws):
    task = serving.task()
    checksum = base64.b64encode(zlib.crc32(BIG).to_bytes(4)).decode()
    trailer = f"x-amz-checksum-crc32:{checksum}\r\nx-amz-trailer-signature:{SIGNATURE}\r\n".encode()
    headers = fields(BIG, WORD + "-TRAILER", **{"x-amz-trailer": "x-amz-checksum-crc32", "x-amz-sdk-checksum-algorithm": "CRC32"})
    answer = serving.call(task, "PUT", S3, "/acme/summed", headers, chunked(BIG, trailer=trailer))
    assert answer.status == 200, answer.body
    assert aws.object("summed") == BIG and SIGNATURE.encode() not in aws.seen[-1]["body"]


@pytest.mark.parametrize(("word", "body", "says"), [
    (WORD, chunked(b"x" * 300_000)[:-20], "broke off"),
    (WORD, chunked(b"x" * 3_000_000, size=2 << 20), "larger than 1 MiB"),
    (WORD, chunked(b"x" * 300_000).replace(b"10000;", b"10001;", 1), "longer than its size says"),
    (WORD, b"hello", "broke off"),
    (WORD, b"5;chunk-signature=no\r\nhello\r\n", "does not begin with"),
    ("STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD", chunked(b"x"), "SigV4A"),
    ("STREAMING-AWS4-HMAC-SHA256-EVENTS", chunked(b"x"), "event streams"),
    ("hello", chunked(b"x"), "does not say how its chunks are signed"),
])
def test_what_is_not_framed_as_it_says_is_refused(serving, aws, word, body, says):
    task = serving.task()
    answer = serving.call(task, "PUT", S3, "/acme/broken", fields(b"x", word), body)
    assert answer.status == 400 and answer.header("remit-reason") == "ambiguous_request", (answer, answer.body)
    assert says.encode() in answer.body, answer.body
    assert aws.object("broken") is None


def test_a_hash_that_is_not_the_bodys_is_noticed_by_the_service(serving, aws):
    headers = {"x-amz-content-sha256": hashlib.sha256(b"other").hexdigest()}
    answer = serving.call(serving.task(), "PUT", S3, "/acme/other", headers, b"body")
    assert answer.status == 400 and b"XAmzContentSHA256Mismatch" in answer.body


# a service that wants the hash of a body that nobody reads

GATEWAY = f"abc123.execute-api.{aws_server.REGION}.amazonaws.com"
CATALOG = f"""provider: orders
hosts: [{GATEWAY}]
credential: s3
errors: aws
operations:
  - {{id: orders.files.put, match: "PUT /prod/files/{{name}}", effect: write, body: stream}}
"""


@pytest.fixture
def gateway(work_aws):
    work_aws.write("catalog/orders.yaml", CATALOG)
    registry = {**REGISTRY, "workflows": [{**REGISTRY["workflows"][0], "grants": [{"intents": ["orders.files.put"]}], "credential": "s3"}]}
    with work_aws.serve(catalog=["builtin", "catalog/*.yaml"], registry=registry, limits={"body": {"llm": "4MiB"}}) as running:
        yield running


def test_a_body_that_streams_is_read_whole_where_its_hash_is_wanted(gateway, aws):
    task = gateway.task()
    for target in ("/prod/files/a.txt?x=1&a=2", "/prod/files/a%20b%3A+c:d@e?q=a%20b&q=%2F"):
        answer = gateway.call(task, "PUT", GATEWAY, target, {"content-type": "text/plain"}, BIG)
        assert answer.status == 200, answer.body
        assert aws.seen[-1]["body"] == BIG and aws.seen[-1]["target"] == target
    chunked = b"PUT /prod/files/b HTTP/1.1\r\nhost: %s\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n" % GATEWAY.encode()
    assert gateway.raw(task, GATEWAY, chunked).status == 200 and aws.seen[-1]["body"] == b"hello"
    hashed = {"x-amz-content-sha256": hashlib.sha256(BIG).hexdigest()}
    assert gateway.call(task, "PUT", GATEWAY, "/prod/files/c", hashed, BIG).status == 200, "the client said it: it streams by"
    large = gateway.call(task, "PUT", GATEWAY, "/prod/files/d", {}, BIG * 2)
    assert large.status == 413 and b"limits.body.llm" in large.body
    leaked = gateway.call(task, "PUT", GATEWAY, "/prod/files/e", {}, b"x" * 100_000 + aws.secret.encode() + b"x" * 100_000)
    assert leaked.status == 403 and leaked.header("remit-reason") == "foreign_credential", "it is searched as any other"
    assert len(aws.seen) == 4


@pytest.mark.parametrize("role", [False, True])
def test_an_answer_that_echoes_the_request_shows_no_key(work_aws, aws, role):
    work_aws.write("catalog/orders.yaml", CATALOG)
    registry = {**REGISTRY, "workflows": [{**REGISTRY["workflows"][0], "grants": [{"intents": ["orders.files.put"]}], "credential": "s3"}]}
    allow = [{"intents": ["orders.files.put"], "allow": [{"action": "execute-api:Invoke", "resource": "*"}]}]
    credential = {**STS, "scope": allow} if role else {}
    with work_aws.serve(catalog=["builtin", "catalog/*.yaml"], registry=registry, credential=credential) as running:
        answer = running.call(running.task(), "PUT", GATEWAY, "/prod/files/a", {"x-amz-security-token": "mine", "x-mine": "kept"}, b"1")
    assert answer.status == 200, answer.body
    echoed, sent = answer.json(), aws.seen[-1]["headers"]
    assert echoed["x-mine"] == "kept" and len(echoed["authorization"]) == len(sent["authorization"])
    key_id = signed_by(aws.seen[-1])
    assert (key_id != aws.id) == role and ("x-amz-security-token" in sent) == role
    for secret in (key_id, aws.secret, sent.get("x-amz-security-token", aws.secret)):
        assert secret.encode() not in answer.body, "scrubbed"


# rclone: a second verifier, and a client in Go

RCLONE_ID, RCLONE_SECRET = "REMITOWNKEY00000", "r" * 8 + "cloneSecretKey/+0123456789abcdef"


@pytest.fixture
def rclone(tmp_path, upstream):
    """`rclone serve s3` over TLS; the port that it listens on."""
    (tmp_path / "root" / "acme").mkdir(parents=True)
    cert, key = upstream.ca.leaf(RCLONE)
    port = ws.free_port()
    binary = str(ws.WORK / "venv" / "bin" / "rclone")
    line = [binary, "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", f"{RCLONE_ID},{RCLONE_SECRET}", "--cert", str(cert), "--key", str(key), "--config", str(tmp_path / "none"), str(tmp_path / "root")]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(line, stdout=log, stderr=log, env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"})
    end = time.monotonic() + 20
    while b"Starting" not in (text := (tmp_path / "log").read_bytes()) and time.monotonic() < end:
        time.sleep(0.05)
    assert b"Starting" in text, text
    yield port, tmp_path / "root"
    process.kill()
    process.wait()


def own(work, port: int, secret: str = RCLONE_SECRET):
    """The keys that `rclone serve s3` knows. It takes no body whose length stands nowhere, which boto3 sends with checksums."""
    credential = {"hosts": [RCLONE]}
    work.configure(credential, rclone=f"127.0.0.1:{port}")
    return {"ACME_AWS_ID": RCLONE_ID, "ACME_AWS_SECRET_KEY": secret, "REGION": "eu-north-1", "CHECKSUMS": "when_required"}


def test_rclone_verifies_what_boto3_sends_through_remit(work_aws, rclone):
    port, root = rclone
    env = own(work_aws, port)
    (root / "acme" / "hello.txt").write_text("hello")
    run = work_aws.run(*agent.python(EVERY_WAY), env=env, timeout=120)
    assert run.code == 0 and "same True" in run.out and f"keys {KEYS_KEPT}" in run.out, run.shown
    wrong = own(work_aws, port, secret="w" * 40)
    run = work_aws.run(*agent.python(BOTO + 's3.get_object(Bucket="acme", Key="small.txt")'), env=wrong)
    assert run.code != 0 and "SignatureDoesNotMatch" in run.shown, "it does verify"


def test_rclone_takes_chunks_that_were_signed_anew(work_aws, rclone):
    port, root = rclone
    env = own(work_aws, port)
    changes = {"credential": {"hosts": [RCLONE]}, "rclone": f"127.0.0.1:{port}", "env": env}
    with work_aws.serve(**changes) as serving:
        task = serving.task()
        answer = serving.call(task, "PUT", RCLONE, "/acme/chunks", fields(BIG, WORD), chunked(BIG))
        assert answer.status == 200, answer.body
    assert (root / "acme" / "chunks").read_bytes() == BIG


def test_rclone_as_a_client_with_placeholder_keys(work_aws, aws, tmp_path):
    """Go's SDK: copies files up and down, in parts too."""
    work_aws.configure(STS)
    (tmp_path / "up").mkdir()
    (tmp_path / "up" / "big").write_bytes(BIG * 4)
    (tmp_path / "up" / "name with ü").write_bytes(b"small")
    binary = str(ws.WORK / "venv" / "bin" / "rclone")
    remote = f":s3,provider=AWS,env_auth=true,region={aws_server.REGION},no_check_bucket=true,force_path_style=true,upload_cutoff=5Mi,chunk_size=5Mi:acme/up"
    flags = "--config /dev/null --retries 1 --low-level-retries 1 --ca-cert $SSL_CERT_FILE"
    script = f"{binary} copy {flags} {tmp_path}/up '{remote}' && {binary} copy {flags} '{remote}' {tmp_path}/down"
    run = work_aws.run("/bin/sh", "-c", script, timeout=120)
    assert run.code == 0, run.shown
    assert (tmp_path / "down" / "big").read_bytes() == BIG * 4 and (tmp_path / "down" / "name with ü").read_bytes() == b"small"
    ways = {s["headers"].get("x-amz-content-sha256", "")[:35] for s in aws.seen if s["method"] == "PUT"}
    assert ways, "it put something"
