"""AWS as moto plays it, with signatures enforced, over TLS; and stricter where moto is lax.

moto checks the signature of a request, its key, its session token and what the user's or role's policies allow. It
takes bodies and chunk signatures on trust, knows no clock, and ignores session policies, source identities and web
identity tokens. Those are checked here, before moto sees the request: `test_aws_server.py` shows each rejection.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
import io
import json
import re
import threading
import urllib.parse

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

ACCOUNT = "123456789012"
REGION = "eu-central-1"
HOSTS = [f"{s}.{REGION}.amazonaws.com" for s in ("s3", "sts", "dynamodb", "acme.s3", "abc123.execute-api")]
AUDIENCE = "sts.amazonaws.com"
EMPTY = hashlib.sha256(b"").hexdigest()


class Refused(Exception):
    def __init__(self, status: int, code: str, message: str = ""):
        super().__init__(code)
        self.status, self.code, self.message = status, code, message


class Aws:
    def __init__(self, authority):
        from moto import settings
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import WSGIRequestHandler, make_server

        self.ca = authority.pem
        settings.INITIAL_NO_AUTH_ACTION_COUNT = 0
        self.sessions: list[dict[str, str]] = []
        self.policies: dict[str, dict] = {}
        self.seen: list[dict] = []
        # seconds that its clock is ahead
        self.ahead = 0
        self.signing_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._patch()
        self._people()
        self.app = DomainDispatcherApplication(create_backend_app)

        class Handler(WSGIRequestHandler):
            def date_time_string(handler, timestamp=None):  # noqa: N805
                return self.now().strftime("%a, %d %b %Y %H:%M:%S GMT")

            def log_request(handler, *_):  # noqa: N805
                pass

        self.server = make_server("127.0.0.1", 0, self._checked, threaded=True, request_handler=Handler, ssl_context=authority.server_context(("http/1.1",)))
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self.server.shutdown()

    def resolve(self) -> dict[str, str]:
        return {host: f"127.0.0.1:{self.port}" for host in HOSTS}

    def clear(self) -> None:
        self.seen.clear()
        self.sessions.clear()
        self.ahead = 0
        for bucket in ("acme", "private"):
            for key in list(self.s3.buckets[bucket].keys):
                if key != "hello.txt":
                    self.s3.delete_object(bucket, key)

    def token(self, subject: str = "system:serviceaccount:agents:remit", audience: str = AUDIENCE, key=None) -> str:
        now = datetime.datetime.now(datetime.timezone.utc)
        claims = {"sub": subject, "aud": audience, "iss": "https://oidc.example.test", "exp": now + datetime.timedelta(minutes=10)}
        return jwt.encode(claims, key or self.signing_key, algorithm="RS256")

    def _people(self) -> None:
        """One user with keys, and roles that it may assume; a bucket, and a table."""
        from moto.iam.models import iam_backends
        from moto.s3.models import s3_backends

        self.iam = iam_backends[ACCOUNT]["aws"]
        everything = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": ["s3:*", "sts:*", "dynamodb:*"], "Resource": "*"}]}
        self.iam.create_user("us-east-1", "remit")
        self.iam.put_user_policy("remit", "all", json.dumps(everything))
        made = self.iam.create_access_key("remit")
        self.id, self.secret = made.access_key_id, made.secret_access_key
        for name, actions in {"agents": ["sts:AssumeRole", "sts:SetSourceIdentity"], "nameless": ["sts:AssumeRole"]}.items():
            trust = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": actions + ["sts:AssumeRoleWithWebIdentity"]}]}
            self.iam.create_role(role_name=name, assume_role_policy_document=json.dumps(trust), path="/", permissions_boundary=None, description="", tags=[], max_session_duration="3600")
            self.iam.put_role_policy(name, "objects", json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}))
        self.s3 = s3_backends[ACCOUNT]["aws"]
        for bucket in ("acme", "private"):
            self.s3.create_bucket(bucket, REGION)
            self.s3.put_object(bucket, "hello.txt", f"hello from {bucket}".encode())

    def object(self, key: str, bucket: str = "acme") -> bytes | None:
        found = self.s3.get_object(bucket, key)
        return found.value if found else None

    def _patch(self) -> None:
        from moto.iam.access_control import IAMRequestBase

        allowed = IAMRequestBase.check_action_permitted

        def check(request, resource):
            allowed(request, resource)
            policy = self.policies.get(request._access_key._access_key_id)
            if policy and not self._permits(policy, request._action, resource):
                request._raise_access_denied()

        IAMRequestBase.check_action_permitted = check

    def _permits(self, policy: dict, action: str, resource: str) -> bool:
        from moto.iam.access_control import IAMPolicy, PermissionResult

        now = self.now().strftime("%Y-%m-%dT%H:%M:%SZ")
        held = []
        for statement in policy["Statement"]:
            condition = dict(statement.get("Condition", {}))
            until = condition.pop("DateLessThan", {}).get("aws:CurrentTime")
            if (until is None or now < until) and not condition:
                held.append({k: v for k, v in statement.items() if k != "Condition"})
        return bool(held) and IAMPolicy(json.dumps({**policy, "Statement": held})).is_action_permitted(action, resource) == PermissionResult.PERMITTED

    def now(self) -> datetime.datetime:
        return datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=self.ahead)

    # what moto does not check

    def _checked(self, environ, start_response):
        length = environ.get("CONTENT_LENGTH")
        chunked = environ.pop("HTTP_TRANSFER_ENCODING", "") == "chunked"
        body = environ["wsgi.input"].read() if chunked else environ["wsgi.input"].read(int(length)) if length else b""
        environ["CONTENT_LENGTH"] = str(len(body))
        headers = {k[5:].replace("_", "-").lower(): v for k, v in environ.items() if k.startswith("HTTP_")}
        form = dict(urllib.parse.parse_qsl(body.decode())) if environ.get("CONTENT_TYPE", "").startswith("application/x-www-form") else {}
        self.seen.append({"method": environ["REQUEST_METHOD"], "target": environ.get("RAW_URI", environ["PATH_INFO"]), "headers": headers, "body": body, "form": form})
        environ["wsgi.input"] = io.BytesIO(body)

        def begin(status, fields, exc_info=None):
            return start_response(status, [f for f in fields if f[0].lower() != "date"], exc_info)

        try:
            if form.get("Action") == "AssumeRoleWithWebIdentity":
                self._check_web_identity(form)
                self._sign(environ, body)
            else:
                self._check_time(headers)
                self._check_body(headers, body)
            if form.get("Action", "").startswith("AssumeRole"):
                self._check_asked(form)
            if "execute-api" in headers["host"]:
                self._check_own_api(environ, headers, body)
                echoed = json.dumps(headers).encode()
                begin("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(echoed)))])
                return [echoed]
        except Refused as refused:
            xml = f"<ErrorResponse><Error><Type>Sender</Type><Code>{refused.code}</Code><Message>{refused.message}</Message></Error></ErrorResponse>".encode()
            begin(f"{refused.status} Refused", [("Content-Type", "text/xml"), ("Content-Length", str(len(xml)))])
            return [xml]
        if not form.get("Action", "").startswith("AssumeRole"):
            return self.app(environ, begin)
        said = []
        text = self._session(form, b"".join(self.app(environ, lambda *head: said.append(head))))
        begin(said[0][0], [(k, v) for k, v in said[0][1] if k.lower() != "content-length"] + [("Content-Length", str(len(text)))])
        return [text]

    def _session(self, form, text: bytes) -> bytes:
        ends = self.now() + datetime.timedelta(seconds=int(form["DurationSeconds"]))
        text = re.sub(rb"<Expiration>.*?</Expiration>", ends.strftime("<Expiration>%Y-%m-%dT%H:%M:%SZ</Expiration>").encode(), text)
        if found := re.search(rb"<AccessKeyId>(.*?)</AccessKeyId>", text):
            self.sessions.append(form)
            if "Policy" in form:
                self.policies[found[1].decode()] = json.loads(form["Policy"])
        return text

    def _check_time(self, headers) -> None:
        if stamp := headers.get("x-amz-date"):
            signed = datetime.datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.timezone.utc)
            if abs((self.now() - signed).total_seconds()) > 300:
                raise Refused(403, "RequestTimeTooSkewed")

    def _sign(self, environ, body: bytes) -> None:
        """moto wants a signature also where AWS takes none."""
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.credentials import Credentials

        request = AWSRequest("POST", f"https://{environ['HTTP_HOST']}/", {"Content-Type": environ["CONTENT_TYPE"]}, body)
        SigV4Auth(Credentials(self.id, self.secret), "sts", REGION).add_auth(request)
        environ["HTTP_AUTHORIZATION"], environ["HTTP_X_AMZ_DATE"] = request.headers["Authorization"], request.headers["X-Amz-Date"]

    def _check_own_api(self, environ, headers, body: bytes) -> None:
        """An API behind a gateway with IAM authorization, which moto does not have: botocore makes the same signature."""
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.credentials import Credentials

        found = re.fullmatch(r"AWS4-HMAC-SHA256 Credential=(\w+)/\d+/\S+/aws4_request, SignedHeaders=(\S+), Signature=(\w+)", headers.get("authorization", ""))
        if not found:
            raise Refused(403, "MissingAuthenticationToken")
        kept = {n: headers[n] for n in found[2].split(";") if n in headers}
        if "content-type" in found[2]:
            kept["content-type"] = environ["CONTENT_TYPE"]
        request = AWSRequest(environ["REQUEST_METHOD"], f"https://{headers['host']}{environ['RAW_URI']}", kept, body)
        request.context["timestamp"] = headers["x-amz-date"]
        auth = SigV4Auth(Credentials(found[1], self._secret(found[1]), headers.get("x-amz-security-token")), "execute-api", REGION)
        text = auth.string_to_sign(request, auth.canonical_request(request))
        if auth.signature(text, request) != found[3]:
            raise Refused(403, "SignatureDoesNotMatch")

    def _check_asked(self, form) -> None:
        if form["RoleArn"].split("/")[-1] not in [r.name for r in self.iam.roles.values()]:
            raise Refused(403, "AccessDenied", "not authorized to perform: sts:AssumeRole")
        if len(form.get("Policy", "")) > 2048 or not 900 <= int(form["DurationSeconds"]) <= 3600:
            raise Refused(400, "ValidationError")
        if identity := form.get("SourceIdentity"):
            if not re.fullmatch(r"[\w+=,.@-]{2,64}", identity, re.ASCII):
                raise Refused(400, "ValidationError")
            role = self.iam.get_role(form["RoleArn"].split("/")[-1])
            if "sts:SetSourceIdentity" not in role.assume_role_policy_document:
                raise Refused(403, "AccessDenied", "not authorized to perform: sts:SetSourceIdentity")

    def _check_web_identity(self, form) -> None:
        try:
            claims = jwt.decode(form["WebIdentityToken"], self.signing_key.public_key(), algorithms=["RS256"], audience=AUDIENCE)
        except jwt.ExpiredSignatureError:
            raise Refused(400, "ExpiredTokenException") from None
        except jwt.InvalidTokenError:
            raise Refused(400, "InvalidIdentityToken") from None
        if not claims["sub"].startswith("system:serviceaccount:agents:"):
            raise Refused(403, "AccessDenied")

    def _check_body(self, headers, body: bytes) -> None:
        word = headers.get("x-amz-content-sha256", "")
        if re.fullmatch("[0-9a-f]{64}", word):
            if hashlib.sha256(body).hexdigest() != word:
                raise Refused(400, "XAmzContentSHA256Mismatch")
        elif word.startswith("STREAMING-AWS4-HMAC-SHA256-PAYLOAD"):
            self._check_chunks(headers, body, word.endswith("-TRAILER"))
        elif word not in ("", "UNSIGNED-PAYLOAD", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"):
            raise Refused(400, "InvalidRequest")

    def _check_chunks(self, headers, body: bytes, trailers: bool) -> None:
        credential, _, before = re.fullmatch(r"AWS4-HMAC-SHA256 Credential=(\S+), SignedHeaders=(\S+), Signature=(\w+)", headers["authorization"]).groups()
        key_id, *parts = credential.split("/")
        secret = self._secret(key_id)
        key = ("AWS4" + secret).encode()
        for part in parts:
            key = hmac.digest(key, part.encode(), "sha256")
        head = f"{headers['x-amz-date']}\n{'/'.join(parts)}"

        def sign(kind: str, *lines: str) -> str:
            return hmac.new(key, "\n".join([f"AWS4-HMAC-SHA256-{kind}", head, *lines]).encode(), "sha256").hexdigest()

        size = None
        while size != 0:
            line, _, body = body.partition(b"\r\n")
            found = re.fullmatch(rb"([0-9a-f]+);chunk-signature=([0-9a-f]{64})", line)
            if not found:
                raise Refused(400, "IncompleteBody")
            size = int(found[1], 16)
            data, body = body[:size], body[size:]
            if found[2].decode() != (before := sign("PAYLOAD", before, EMPTY, hashlib.sha256(data).hexdigest())):
                raise Refused(403, "SignatureDoesNotMatch")
            if size:
                if not body.startswith(b"\r\n"):
                    raise Refused(400, "IncompleteBody")
                body = body[2:]
        if trailers:
            fields, _, signature = body.removesuffix(b"\r\n\r\n").rpartition(b"x-amz-trailer-signature:")
            canonical = b"".join(f + b"\n" for f in fields.split(b"\r\n") if f)
            if signature.decode() != sign("TRAILER", before, hashlib.sha256(canonical).hexdigest()):
                raise Refused(403, "SignatureDoesNotMatch")

    def _secret(self, key_id: str) -> str:
        from moto.sts.models import sts_backends

        for role in sts_backends[ACCOUNT]["aws"].assumed_roles:
            if role.access_key_id == key_id:
                return role.secret_access_key
        return self.secret if key_id == self.id else ""
