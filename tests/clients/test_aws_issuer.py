"""Kind `aws` when STS refuses, lies or is away: the call gets `credential_unavailable`, saying what to mend, and no secret is shown."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
import time

import agent
import aws_server
import pytest
import workspace as ws
from cryptography.hazmat.primitives.asymmetric import rsa
from aws_lab import BOTO, KEYS, ROLE, S3, STS, signed_by

GET = BOTO + 's3.get_object(Bucket="acme", Key="hello.txt"); print("got it")'
STS_HOST = f"sts.{aws_server.REGION}.amazonaws.com"


def refused(work, *says: str, within: float = 15, **run) -> str:
    """One call that gets no credential; what the agent was told."""
    began = time.monotonic()
    done = work.run(*agent.python(GET), **run)
    assert done.code != 0 and "credential_unavailable" in done.shown, done.shown
    assert time.monotonic() - began < within
    told = agent.without_summary(done.shown)
    for text in says:
        assert text in told, f"{text!r} is not in:\n{told}"
    return told


@pytest.mark.parametrize(("env", "says"), [
    ({"ACME_AWS_SECRET_KEY": "w" * 40}, "SignatureDoesNotMatch: the secret access key does not belong"),
    ({"ACME_AWS_ID": "AKIAUNKNOWN000000000"}, "InvalidClientTokenId: it does not know the access key"),
])
def test_wrong_keys(work_aws, aws, env, says):
    work_aws.configure(STS)
    told = refused(work_aws, f"https://{STS_HOST}", says, env=env)
    assert "w" * 40 not in told and "AKIAUNKNOWN" not in told
    assert [s for s in aws.seen if s["headers"]["host"] == S3] == []


def test_wrong_keys_that_sign_themselves_are_told_by_aws(work_aws, aws):
    work_aws.configure()
    run = work_aws.run(*agent.python(GET), env={"ACME_AWS_SECRET_KEY": "w" * 40})
    assert run.code != 0 and "SignatureDoesNotMatch" in run.shown, run.shown
    assert "w" * 40 not in run.shown


def test_a_role_that_is_gone(work_aws, aws):
    work_aws.configure({**STS, "role": ROLE.replace("agents", "gone")})
    refused(work_aws, "AccessDenied: the role's trust policy must allow")


def test_a_role_that_takes_no_source_identity(work_aws, aws):
    role = {**STS, "role": ROLE.replace("agents", "nameless")}
    work_aws.configure(role)
    refused(work_aws, "AccessDenied", "sts:SetSourceIdentity (or write `source_identity: none`)")
    work_aws.configure({**role, "source_identity": "none"})
    assert "got it" in work_aws.run(*agent.python(GET)).out


def test_a_web_identity(work_aws, aws):
    file = work_aws.folder / "token"
    role = {"role": ROLE, "scope": STS["scope"], "web_identity": {"file": str(file)}}
    file.write_text(aws.token() + "\n")
    original = work_aws.configure

    def configure():
        original(role)
        text = (work_aws.folder / "credentials.yaml").read_text()
        import yaml

        credentials = yaml.safe_load(text)
        for name in KEYS:
            del credentials["credentials"]["s3"][name]
        work_aws.write("credentials.yaml", credentials)

    configure()
    run = work_aws.run(*agent.python(GET), options=("--for", "alice@acme.example"))
    assert "got it" in run.out, run.shown
    (session,) = aws.sessions
    assert session["Action"] == "AssumeRoleWithWebIdentity" and "Policy" in session and "SourceIdentity" not in session
    assert session["RoleSessionName"].endswith("=alice@acme.example"), "nothing else tells of the principal"
    asked = next(s for s in aws.seen if s["form"])
    assert "authorization" not in asked["headers"], "the token is the proof"
    token = file.read_text().strip()
    assert token not in run.shown and token not in str(work_aws.audit())
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    for wrong, says in [
        (aws.token(key=other), "InvalidIdentityToken"),
        (aws.token(audience="urn:other"), "InvalidIdentityToken"),
        (aws.token(subject="system:serviceaccount:other:remit"), "AccessDenied"),
    ]:
        file.write_text(wrong)
        assert wrong not in refused(work_aws, says)


def test_a_clock_ten_minutes_off_is_learnt(work_aws, aws):
    work_aws.configure(STS)
    for ahead in (600, -600):
        aws.clear()
        aws.ahead = ahead
        run = work_aws.run(*agent.python(GET))
        assert "got it" in run.out, run.shown
        stamps = [s["form"].get("Action", "s3") for s in aws.seen]
        assert stamps == ["AssumeRole", "AssumeRole", "s3"], "asked again by its clock, and objects signed by it too"


class Nonsense:
    """Something that is no STS, in one of several ways, at its address."""

    def __init__(self, authority, way: str):
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                self.rfile.read(int(self.headers["content-length"]))
                outer.asked += 1
                with contextlib.suppress(OSError):
                    outer.answer(self)

            def log_message(self, *_):
                pass

        self.asked, self.way = 0, way
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if way != "plain":
            context = authority.server_context(("http/1.1",))
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, request):
        status, headers, body = 200, {}, b""
        match self.way:
            case "redirects":
                status, headers = 302, {"Location": "https://evil.example.test/"}
            case "large":
                body = b"<AccessKeyId>" * (10 << 20 >> 3)
            case "nonsense":
                body = b"<AssumeRoleResponse><Credentials><AccessKeyId>ASIA</AccessKeyId></Credentials></AssumeRoleResponse>"
            case "slow":
                time.sleep(20)
            case "broken":
                status, body = 503, b"<Error><Code>ServiceUnavailable</Code></Error>"
            case "page":
                status, body = 404, b"<html>no such page</html>"
        request.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(body)

    def stop(self):
        self.server.shutdown()


@pytest.mark.parametrize(("way", "says"), [
    ("redirects", "a redirect is not followed"),
    ("large", "larger than 1 MiB"),
    ("nonsense", "its answer is no session: `Expiration` is missing"),
    ("slow", "no answer within"),
    ("broken", "it answered 503"),
    ("page", "is this its address?"),
    ("plain", "TLS"),
    ("untrusted", "TLS"),
    ("away", "refused"),
])
def test_what_is_no_sts(work_aws, aws, upstream, tmp_path, way, says):
    import ca

    other = Nonsense(ca.Authority(tmp_path / "other", "Nobody's CA") if way == "untrusted" else upstream.ca, way)
    try:
        resolve = {**aws.resolve(), STS_HOST: "127.0.0.1:1" if way == "away" else f"127.0.0.1:{other.port}"}
        work_aws.configure(STS, upstream={"allow_addresses": ["127.0.0.0/8"], "resolve": resolve})
        told = refused(work_aws, f"https://{STS_HOST}", says, within=30)
        assert aws.secret not in told and aws.seen == []
    finally:
        other.stop()


def test_more_than_was_asked_is_not_used(work_aws, aws, monkeypatch):
    """A session of another role."""
    from moto.sts.models import STSBackend

    real = STSBackend.assume_role

    def other(self, **asked):
        return real(self, **{**asked, "role_arn": asked["role_arn"].replace("agents", "nameless")})

    monkeypatch.setattr(STSBackend, "assume_role", other)
    work_aws.configure(STS)
    refused(work_aws, "a session of another role than")
    assert [s for s in aws.seen if s["headers"]["host"] == S3] == []


def test_keys_in_files_rotate_without_a_restart(work_aws, aws):
    """A key is made inactive at IAM, and another written to the files that Remit watches."""
    for name, value in (("id", "AKIAOLD0000000000000"), ("key", "o" * 40)):
        (work_aws.folder / name).write_text(value)
    with work_aws.serve(credential={"access_key_id": {"file": "id"}, "secret_access_key": {"file": "key"}}) as serving:
        task = serving.task()

        def status():
            return serving.call(task, "GET", S3, "/acme/hello.txt").status

        assert status() == 403
        (work_aws.folder / "id").write_text(aws.id)
        (work_aws.folder / "key").write_text(aws.secret)
        ws.until(lambda: status() == 200, wait=10, what="the new keys sign")
    for name in ("id", "key"):
        (work_aws.folder / name).unlink()
