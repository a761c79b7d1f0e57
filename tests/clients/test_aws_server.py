"""What the AWS of these tests rejects: each is a request that Remit must never send, and a test of Remit would notice."""

from __future__ import annotations

import datetime
import hashlib
import hmac
import http.client
import json
import ssl
import urllib.parse

import aws_server
import pytest
from aws_lab import REGION, ROLE, S3
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from cryptography.hazmat.primitives.asymmetric import rsa

STS = f"sts.{REGION}.amazonaws.com"


def send(aws, method: str, host: str, target: str, headers: dict, body: bytes = b"") -> tuple[int, str]:
    context = ssl._create_unverified_context()
    connection = http.client.HTTPSConnection("127.0.0.1", aws.port, timeout=10, context=context)
    connection.request(method, target, body, {"Host": host, **headers})
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def signed(aws, method: str, host: str, target: str, body: bytes = b"", keys=None, headers=None, service: str = "s3") -> dict:
    request = AWSRequest(method, f"https://{host}{target}", headers or {}, body)
    auth = S3SigV4Auth if service == "s3" else SigV4Auth
    auth(Credentials(*(keys or (aws.id, aws.secret))), service, REGION).add_auth(request)
    return dict(request.headers)


def put(aws, body: bytes = b"body", keys=None, sent: bytes | None = None, change=lambda headers: None, key: str = "/acme/probe") -> tuple[int, str]:
    headers = signed(aws, "PUT", S3, key, body, keys)
    change(headers)
    return send(aws, "PUT", S3, key, headers, body if sent is None else sent)


def assume(aws, keys=None, **changes) -> tuple[int, str]:
    form = {"Action": "AssumeRole", "Version": "2011-06-15", "RoleArn": ROLE, "RoleSessionName": "probe", "DurationSeconds": "900", **changes}
    body = urllib.parse.urlencode({k: v for k, v in form.items() if v is not None}).encode()
    kind = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
    headers = {**kind, **signed(aws, "POST", STS, "/", body, keys, dict(kind), "sts")} if keys != () else kind
    return send(aws, "POST", STS, "/", headers, body)


@pytest.fixture(autouse=True)
def fresh(aws):
    aws.clear()


def test_what_is_right_passes(aws):
    assert put(aws)[0] == 200 and aws.object("probe") == b"body"
    assert assume(aws, SourceIdentity="alice", Policy="{}")[0] == 200
    assert assume(aws, (), Action="AssumeRoleWithWebIdentity", WebIdentityToken=aws.token())[0] == 200


@pytest.mark.parametrize(("what", "code"), [
    ("secret", "SignatureDoesNotMatch"), ("id", "InvalidAccessKeyId"), ("path", "SignatureDoesNotMatch"), ("field", "SignatureDoesNotMatch"),
    ("body", "XAmzContentSHA256Mismatch"), ("hash", "SignatureDoesNotMatch"), ("old", "RequestTimeTooSkewed"),
])
def test_a_request_that_is_not_as_it_was_signed(aws, what, code):
    match what:
        case "secret":
            got = put(aws, keys=(aws.id, "w" * 40))
        case "id":
            got = put(aws, keys=("AKIAUNKNOWN000000000", aws.secret))
        case "path":
            got = send(aws, "PUT", S3, "/acme/other", signed(aws, "PUT", S3, "/acme/probe", b"body"), b"body")
        case "field":
            headers = signed(aws, "PUT", S3, "/acme/probe", b"body", headers={"x-amz-meta-owner": "acme"})
            got = send(aws, "PUT", S3, "/acme/probe", {**headers, "x-amz-meta-owner": "other"}, b"body")
        case "body":
            got = put(aws, sent=b"else")
        case "hash":
            got = put(aws, sent=b"else", change=lambda h: h.update({"X-Amz-Content-SHA256": hashlib.sha256(b"else").hexdigest()}))
        case "old":
            aws.ahead = 400
            got = put(aws)
    assert got[0] in (400, 403) and code in got[1], got


def chunks(aws, data: bytes, spoil: str = "") -> tuple[int, str]:
    """One signed chunk and a signed checksum, made here by the documentation's words."""
    word = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
    request = AWSRequest("PUT", f"https://{S3}/acme/probe", {"x-amz-decoded-content-length": str(len(data)), "x-amz-trailer": "x-amz-checksum-crc32", "content-encoding": "aws-chunked"}, b"")
    request.context["payload_signing_enabled"] = True

    class Auth(S3SigV4Auth):
        def payload(self, _):
            return word

    auth = Auth(Credentials(aws.id, aws.secret), "s3", REGION)
    auth.add_auth(request)
    headers = dict(request.headers)
    stamp, day = headers["X-Amz-Date"], headers["X-Amz-Date"][:8]
    key = ("AWS4" + aws.secret).encode()
    for part in (day, REGION, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    before = headers["Authorization"].rsplit("=", 1)[1]

    def sign(kind, *lines):
        text = "\n".join([f"AWS4-HMAC-SHA256-{kind}", stamp, f"{day}/{REGION}/s3/aws4_request", *lines])
        return hmac.new(key, text.encode(), "sha256").hexdigest()

    first = sign("PAYLOAD", before, aws_server.EMPTY, hashlib.sha256(data).hexdigest())
    last = sign("PAYLOAD", first, aws_server.EMPTY, aws_server.EMPTY)
    field = "x-amz-checksum-crc32:AAAAAA=="
    trailer = sign("TRAILER", last, hashlib.sha256(field.encode() + b"\n").hexdigest())
    body = f"{len(data):x};chunk-signature={first}\r\n".encode() + data + f"\r\n0;chunk-signature={last}\r\n{field}\r\nx-amz-trailer-signature:{trailer}\r\n\r\n".encode()
    match spoil:
        case "chunk":
            body = body.replace(first.encode(), b"0" * 64)
        case "data":
            body = body.replace(data, data[::-1])
        case "last":
            body = body.replace(last.encode(), b"0" * 64)
        case "trailer":
            body = body.replace(trailer.encode(), b"0" * 64)
        case "field":
            body = body.replace(b"AAAAAA", b"BAAAAA")
        case "frame":
            body = body.replace(b";chunk-signature=", b";", 1)
    return send(aws, "PUT", S3, "/acme/probe", headers, body)


def test_chunks_that_are_not_as_they_were_signed(aws):
    # signed as they are they get through to moto, which then finds the made-up checksum wrong or keeps the object
    assert "SignatureDoesNotMatch" not in chunks(aws, b"some data")[1]
    for spoil in ("chunk", "data", "last", "trailer", "field"):
        status, text = chunks(aws, b"some data", spoil)
        assert status == 403 and "SignatureDoesNotMatch" in text, (spoil, status, text)
    assert "IncompleteBody" in chunks(aws, b"some data", "frame")[1]


def test_sessions(aws):
    from moto.sts.models import sts_backends

    def session(**statement):
        policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::acme/*", **statement}]}
        assert assume(aws, Policy=json.dumps(policy))[0] == 200
        role = sts_backends[aws_server.ACCOUNT]["aws"].assumed_roles[-1]
        return role.access_key_id, role.secret_access_key, role.session_token

    later = (aws.now() + datetime.timedelta(minutes=5)).strftime("%Y-%m-%dT%H:%M:%SZ")
    keys = session(Condition={"DateLessThan": {"aws:CurrentTime": later}})
    assert put(aws, keys=keys)[0] == 200
    assert "AccessDenied" in put(aws, keys=keys, key="/private/probe")[1], "beyond its policy"
    assert "InvalidToken" in put(aws, keys=(*keys[:2], "other-token"))[1]
    assert put(aws, keys=(keys[0], "w" * 40, keys[2]))[0] == 403
    past = (aws.now() - datetime.timedelta(seconds=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert "AccessDenied" in put(aws, keys=session(Condition={"DateLessThan": {"aws:CurrentTime": past}}))[1]
    assert "AccessDenied" in put(aws, keys=session(Condition={"StringEquals": {"s3:prefix": "a"}}))[1], "what it does not understand it does not allow"


def test_what_sts_does_not_give(aws):
    assert "SignatureDoesNotMatch" in assume(aws, (aws.id, "w" * 40))[1]
    assert "InvalidClientTokenId" in assume(aws, ("AKIAUNKNOWN000000000", aws.secret))[1]
    assert "AccessDenied" in assume(aws, RoleArn=ROLE.replace("agents", "gone"))[1]
    assert "AccessDenied" in assume(aws, RoleArn=ROLE.replace("agents", "nameless"), SourceIdentity="alice")[1]
    for wrong in ({"SourceIdentity": "a b"}, {"SourceIdentity": "x" * 65}, {"DurationSeconds": "600"}, {"DurationSeconds": "7200"}, {"Policy": "x" * 2049}):
        assert "ValidationError" in assume(aws, **wrong)[1], wrong
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    for token, code in [(aws.token(key=other), "InvalidIdentityToken"), (aws.token(audience="x"), "InvalidIdentityToken"), (aws.token(subject="x"), "AccessDenied"), ("x.y.z", "InvalidIdentityToken")]:
        assert code in assume(aws, (), Action="AssumeRoleWithWebIdentity", WebIdentityToken=token)[1], code
