"""Real authorization servers on loopback, and an API that looks at each token it is shown."""

from __future__ import annotations

import base64
import http.server
import json
import os
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

import workspace as ws

EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
HOST = "crm.example.test"
KEYCLOAK = ws.WORK / "keycloak"

CATALOG = {
    "provider": "crm", "hosts": [HOST], "credential": "crm",
    "operations": [
        {"id": "crm.contacts.list", "match": "GET /contacts", "effect": "read"},
        {"id": "crm.contacts.create", "match": "POST /contacts", "effect": "write"},
        {"id": "crm.contacts.get", "match": "GET /tenants/{tenant}/contacts", "effect": "read"},
        {"id": "crm.admin.purge", "match": "DELETE /contacts", "effect": "delete"},
    ],
}
REGISTRY = {
    "agents": [{"id": "tester", "owner": "tests@acme.example", "workflows": ["crm"]}],
    "workflows": [{"id": "crm", "purpose": "Keep contacts", "max_lifetime": "10m", "grants": [{"intents": ["crm.contacts.*", "crm.admin.purge"]}]}],
}


def post(url: str, form: dict, client: str | None = None) -> tuple[int, dict]:
    """A form, as `client` with its secret; whatever is answered."""
    request = urllib.request.Request(url, urllib.parse.urlencode(form, doseq=True).encode())
    if client:
        request.add_header("Authorization", "Basic " + base64.b64encode(f"{client}:{urllib.parse.quote(secret(client), safe='')}".encode()).decode())
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=20) as answer:
            return answer.status, json.loads(answer.read() or b"{}")
    except urllib.error.HTTPError as refused:
        return refused.code, json.loads(refused.read() or b"{}")


def secret(client: str) -> str:
    return f"{client}-s-own-secret-%+/4711"


def jwk(key) -> dict:
    """The public part of a key."""
    def number(value: int, size: int) -> str:
        return base64.urlsafe_b64encode(value.to_bytes(size, "big")).decode().rstrip("=")

    public = key.public_key().public_numbers()
    if isinstance(key, rsa.RSAPrivateKey):
        return {"kty": "RSA", "n": number(public.n, 256), "e": number(public.e, 3), "alg": "RS256", "use": "sig"}
    return {"kty": "EC", "crv": "P-256", "x": number(public.x, 32), "y": number(public.y, 32), "alg": "ES256", "use": "sig"}


def pem(key) -> str:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()


class _Process:
    """A server in a process group of its own."""

    def __init__(self, folder):
        self.folder, self.port, self.process = folder, ws.free_port(), None
        self.log = folder / f"{type(self).__name__.lower()}.log"
        self.ec, self.rsa = ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 2048)

    def launch(self, line: list[str], ready, env: dict[str, str], wait: float) -> None:
        self.process = subprocess.Popen(line, env=env, stdin=subprocess.DEVNULL, stdout=self.log.open("ab"), stderr=subprocess.STDOUT, start_new_session=True)
        end = time.monotonic() + wait
        while not ready():
            assert self.process.poll() is None and time.monotonic() < end, f"{line[0]} did not start:\n{self.log.read_text()[-3000:]}"
            time.sleep(0.2)

    def stop(self) -> None:
        if self.process:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def introspect(self, token: str) -> dict:
        return post(self.introspection, {"token": token}, "crm")[1]


class OidcProvider(_Process):
    """npm `oidc-provider`, with an exchange that says who acts."""

    def start(self) -> "OidcProvider":
        self.issuer = f"http://127.0.0.1:{self.port}"
        self.token, self.introspection, self.revocation = (f"{self.issuer}/token{path}" for path in ("", "/introspection", "/revocation"))
        grants = ["client_credentials", "refresh_token", EXCHANGE, "urn:example:person"]
        base = {"redirect_uris": [], "response_types": [], "grant_types": grants}
        clients = [{**base, "client_id": name, "client_secret": secret(name)} for name in ("remit", "crm", "revoked")]
        clients += [{**base, "client_id": "by-post", "client_secret": secret("by-post"), "token_endpoint_auth_method": "client_secret_post"}]
        for name, key, alg in (("by-key", self.ec, "ES256"), ("by-rsa", self.rsa, "RS256")):
            clients.append({**base, "client_id": name, "token_endpoint_auth_method": "private_key_jwt", "token_endpoint_auth_signing_alg": alg, "jwks": {"keys": [jwk(key)]}})
        setup = {"clients": clients, "actors": {"https://remit.acme.example": jwk(self.ec)}, "scopes": ["crm.read", "crm.write", "acme.read"]}
        (self.folder / "server.json").write_text(json.dumps(setup))
        env = {"PATH": f"{ws.WORK / 'venv' / 'bin'}:/usr/bin:/bin", "NODE_PATH": str(ws.NODE_MODULES), "HOME": str(self.folder)}
        line = ["node", str(ws.HERE / "authorization_server.mjs"), str(self.port), str(self.folder / "server.json")]
        self.launch(line, lambda: self.log.exists() and "ready" in self.log.read_text(), env, 30)
        return self

    def person(self, name: str, scope: str = "crm.read crm.write", consent: bool = False) -> str:
        """The token by which a person shows who she is; or the refresh token of her consent."""
        status, given = post(self.token, {"grant_type": "urn:example:person", "person": name, "scope": scope, **({"consent": "1"} if consent else {})}, "remit")
        assert status == 200, given
        return given["refresh_token" if consent else "access_token"]


class Keycloak(_Process):
    """Keycloak, with a realm that is made anew at each start."""

    def start(self) -> "Keycloak":
        self.issuer = f"http://127.0.0.1:{self.port}/realms/acme"
        at = f"{self.issuer}/protocol/openid-connect"
        self.token, self.introspection, self.revocation = f"{at}/token", f"{at}/token/introspect", f"{at}/revoke"
        home = self.folder / "keycloak"
        subprocess.run(["cp", "-r", f"{KEYCLOAK}/.", str(home)], check=True)
        (home / "data" / "import").mkdir(parents=True, exist_ok=True)
        (home / "data" / "import" / "acme.json").write_text(json.dumps(self.realm()))
        env = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(self.folder), "JAVA_OPTS_APPEND": "-Xmx512m -XX:TieredStopAtLevel=1"}
        line = [str(home / "bin" / "kc.sh"), "start-dev", "--import-realm", "--http-host=127.0.0.1", f"--http-port={self.port}"]
        self.launch(line, lambda: "started in" in self.log.read_text(), env, 240)
        return self

    def person(self, client: str = "frontend") -> dict:
        status, given = post(self.token, {"grant_type": "password", "username": "alice", "password": "alice-s-own", "scope": "crm.read crm.write"}, client)
        assert status == 200, given
        return given

    def realm(self) -> dict:
        def mapper(name: str, kind: str, **config: str) -> dict:
            return {"name": name, "protocol": "openid-connect", "protocolMapper": kind, "config": {"access.token.claim": "true", "introspection.token.claim": "true", **config}}

        def scope(name: str) -> dict:
            audience = mapper("crm", "oidc-audience-mapper", **{"included.client.audience": "crm"})
            return {"name": name, "protocol": "openid-connect", "attributes": {"include.in.token.scope": "true"}, "protocolMappers": [audience]}

        def client(name: str, attributes: dict | None = None, **more) -> dict:
            return {
                "clientId": name, "enabled": True, "publicClient": False, "standardFlowEnabled": False, "serviceAccountsEnabled": True, "fullScopeAllowed": False,
                "secret": secret(name), "defaultClientScopes": ["basic"], "optionalClientScopes": ["crm.read", "crm.write"], "attributes": attributes or {}, **more,
            }

        basic = {"name": "basic", "protocol": "openid-connect", "attributes": {"include.in.token.scope": "false"}, "protocolMappers": [mapper("sub", "oidc-sub-mapper")]}
        keys = {"use.jwks.string": "true", "jwks.string": json.dumps({"keys": [{**jwk(self.rsa), "kid": "remit-1"}]}), "token.endpoint.auth.signing.alg": "RS256"}
        public = self.rsa.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()
        return {
            "realm": "acme", "enabled": True, "sslRequired": "none", "revokeRefreshToken": True, "refreshTokenMaxReuse": 0, "accessTokenLifespan": 120,
            "clientScopes": [basic, scope("crm.read"), scope("crm.write"), scope("crm.admin")],
            "clients": [
                client("remit"), client("crm"), client("by-key", keys, clientAuthenticatorType="client-jwt"),
                client("wide", defaultClientScopes=["basic", "crm.read", "crm.admin"]),
                client("exchanger", {"standard.token.exchange.enabled": "true"}),
                client("bearer", {"oauth2.jwt.authorization.grant.enabled": "true", "oauth2.jwt.authorization.grant.idp": "remits"}),
                client("frontend", directAccessGrantsEnabled=True, protocolMappers=[mapper("exchanger", "oidc-audience-mapper", **{"included.client.audience": "exchanger"}), mapper("remit", "oidc-audience-mapper", **{"included.custom.audience": "urn:remit"})]),
                client("consented", directAccessGrantsEnabled=True),
            ],
            "identityProviders": [{
                "alias": "remits", "providerId": "jwt-authorization-grant", "enabled": True,
                "config": {"issuer": "https://remit.acme.example", "jwtAuthorizationGrantEnabled": "true", "useJwksUrl": "false", "publicKeySignatureVerifier": public, "publicKeySignatureVerifierKeyId": "remit-1", "jwtAuthorizationGrantAssertionSignatureAlg": "RS256"},
            }],
            "users": [{
                "username": "alice", "enabled": True, "email": "alice@acme.example", "emailVerified": True, "firstName": "Alice", "lastName": "Acme",
                "credentials": [{"type": "password", "value": "alice-s-own", "temporary": False}],
                "federatedIdentities": [{"identityProvider": "remits", "userId": "alice@acme.example", "userName": "alice"}],
            }],
        }


class Crm:
    """An API that asks the server about each token, and holds its bearer to the scopes. It shows what it was shown."""

    def __init__(self, upstream, server):
        self.server, self.tokens = server, []
        crm = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self):
                length = int(self.headers.get("content-length") or 0)
                self.rfile.read(length)
                status, body = crm.judge(self.command, self.headers.get_all("authorization") or [])
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_DELETE = answer

            def log_message(self, *_):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.socket = upstream.ca.server_context(("http/1.1",)).wrap_socket(self.http.socket, server_side=True)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def resolve(self) -> dict:
        return {HOST: f"127.0.0.1:{self.http.server_address[1]}"}

    def judge(self, method: str, shown: list[str]) -> tuple[int, dict]:
        if len(shown) != 1 or not shown[0].startswith("Bearer "):
            return 401, {"error": "one bearer token is wanted", "shown": len(shown)}
        token = shown[0].removeprefix("Bearer ")
        self.tokens.append(token)
        claims = self.server.introspect(token)
        if not claims.get("active"):
            return 401, {"error": "invalid_token"}
        needed = {"GET": "crm.read", "POST": "crm.write"}.get(method, "crm.admin")
        scopes = claims.get("scope", "").split()
        if needed not in scopes and "acme.read" not in scopes:
            return 403, {"error": "insufficient_scope", "scope": claims.get("scope")}
        return 200, {"claims": claims, "echo": token}

    def stop(self) -> None:
        self.http.shutdown()
