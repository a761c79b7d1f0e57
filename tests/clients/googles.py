"""A Google that verifies what a service account signs and what a federated issuer signed, gives access tokens of
the scopes that were asked, lets one account act as another where it may, and holds each token to its scopes."""

from __future__ import annotations

import json
import re
import secrets

import jwt
from issuers import Fake, Refused, form, rsa_pem

OAUTH, STS, IAM, STORAGE = "oauth2.googleapis.com", "sts.googleapis.com", "iamcredentials.googleapis.com", "storage.googleapis.com"
AUTH = "https://www.googleapis.com/auth/"
SCOPES = {AUTH + s for s in ("iam", "cloud-platform", "devstorage.read_only", "devstorage.read_write", "drive")}
BOT, OTHER, LOCKED = "bot@acme.iam.gserviceaccount.com", "reports@acme.iam.gserviceaccount.com", "locked@acme.iam.gserviceaccount.com"
PROVIDER = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/agents/providers/cluster"
ISSUER = "https://cluster.example.test"
ACCESS = "urn:ietf:params:oauth:token-type:access_token"
JWT_BEARER, EXCHANGE = "urn:ietf:params:oauth:grant-type:jwt-bearer", "urn:ietf:params:oauth:grant-type:token-exchange"


class Google(Fake):
    HOSTS = (OAUTH, STS, IAM, STORAGE)

    def __init__(self, folder):
        super().__init__(folder)
        self.pem, self.public = rsa_pem()
        self.cluster_pem, self.cluster = rsa_pem()
        self.kid, self.disabled, self.more = "kid-1", False, None
        self.tokens: dict[str, dict] = {}

    def key_file(self, **changes) -> str:
        """As `gcloud iam service-accounts keys create` writes it."""
        key = {"type": "service_account", "project_id": "acme", "private_key_id": self.kid, "private_key": self.pem, "client_email": BOT, "client_id": "1", "token_uri": f"https://{OAUTH}/token"}
        return json.dumps({**key, **changes})

    def subject(self, **changes) -> str:
        """A token of the cluster's, for the provider."""
        claims = {"iss": ISSUER, "sub": "system:serviceaccount:agents:remit", "aud": PROVIDER, "iat": self.now(), "exp": self.now() + 600, **changes}
        return jwt.encode(claims, changes.pop("key", self.cluster_pem), "RS256")

    async def answer(self, request, reply, body):
        try:
            if request.host != STORAGE and await self.misbehave(reply):
                return
            match request.host:
                case "oauth2.googleapis.com":
                    answer = self._signed(request, body)
                case "sts.googleapis.com":
                    answer = self._exchanged(request, body)
                case "iamcredentials.googleapis.com":
                    answer = self._impersonated(request, body)
                case _:
                    answer = self._storage(request, body)
            await self.json(reply, 200, answer)
        except Refused as refused:
            if request.host in (OAUTH, STS):
                return await self.json(reply, refused.status, {"error": "invalid_grant", "error_description": refused.message})
            await self.json(reply, refused.status, {"error": {"code": refused.status, "message": refused.message, "status": "DENIED"}})

    def _give(self, account: str, scopes: list[str], seconds: int) -> str:
        token = "ya29.c." + secrets.token_urlsafe(150)
        self.tokens[token] = {"account": account, "scopes": scopes, "until": self.now() + seconds}
        return token

    def _scopes(self, text: str) -> list[str]:
        scopes = text.split()
        if not scopes or not set(scopes) <= SCOPES:
            raise Refused(400, "Invalid OAuth scope or ID token audience provided.")
        return scopes

    def _times(self, claims: dict, longest: int) -> None:
        iat, exp = claims.get("iat"), claims.get("exp")
        if not isinstance(iat, int) or not isinstance(exp, int) or not iat <= self.now() < exp or exp - iat > longest:
            raise Refused(400, "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check your iat and exp values in the JWT claim.")

    def _verified(self, token: str, key, audience: str) -> dict:
        try:
            return jwt.decode(token, key, algorithms=["RS256"], audience=audience, options={"verify_exp": False, "verify_iat": False, "require": ["iss", "iat", "exp"]})
        except jwt.InvalidAudienceError as error:
            raise Refused(400, "Invalid JWT: audience.") from error
        except jwt.InvalidTokenError as error:
            raise Refused(400, "Invalid JWT Signature.") from error

    def _form(self, request, body: bytes, path: str) -> dict[str, str]:
        if (request.method, request.path) != ("POST", path) or request.header("content-type").split(";")[0] != "application/x-www-form-urlencoded":
            raise Refused(404, "Not Found")
        try:
            return form(body)
        except ValueError as error:
            raise Refused(400, "no form") from error

    def _signed(self, request, body):
        fields = self._form(request, body, "/token")
        if fields.get("grant_type") != JWT_BEARER:
            raise Refused(400, "Invalid grant_type")
        assertion = fields.get("assertion", "")
        claims = self._verified(assertion, self.public, f"https://{OAUTH}/token")
        if jwt.get_unverified_header(assertion).get("kid") != self.kid or claims["iss"] != BOT:
            raise Refused(400, "Invalid JWT Signature.")
        if self.disabled:
            raise Refused(400, "Invalid grant: account not found")
        self._times(claims, 3600)
        scopes = self._scopes(claims.get("scope", ""))
        answer = {"access_token": self._give(BOT, scopes, 3599), "expires_in": 3599, "token_type": "Bearer"}
        return {**answer, "scope": " ".join([*scopes, AUTH + "cloud-platform"])} if self.more == "scopes" else answer

    def _exchanged(self, request, body):
        fields = self._form(request, body, "/v1/token")
        if request.header("authorization"):
            raise Refused(401, "Request had invalid authentication credentials.")
        if fields.get("grant_type") != EXCHANGE or fields.get("requested_token_type") != ACCESS or fields.get("subject_token_type") != "urn:ietf:params:oauth:token-type:jwt":
            raise Refused(400, "Invalid grant_type or token type")
        if fields.get("audience") != PROVIDER:
            raise Refused(400, "Invalid value for \"audience\".")
        claims = self._verified(fields.get("subject_token", ""), self.cluster, PROVIDER)
        if claims["iss"] != ISSUER:
            raise Refused(400, "The issuer in ID Token does not match the expected ones.")
        self._times(claims, 86_400)
        token = self._give(claims["sub"], self._scopes(fields.get("scope", "")), 3599)
        return {"access_token": token, "issued_token_type": ACCESS, "token_type": "Bearer", "expires_in": 3599}

    def _token(self, request, *enough: str) -> dict:
        kind, _, token = request.header("authorization").partition(" ")
        facts = self.tokens.get(token)
        if kind != "Bearer" or facts is None or facts["until"] <= self.now():
            raise Refused(401, "Request had invalid authentication credentials.")
        if not set(facts["scopes"]) & {AUTH + s for s in enough}:
            raise Refused(403, "Request had insufficient authentication scopes.")
        return facts

    def _impersonated(self, request, body):
        found = re.fullmatch(r"/v1/projects/-/serviceAccounts/([^/:]+):generateAccessToken", request.path)
        if not found or request.method != "POST":
            raise Refused(404, "Not Found")
        self._token(request, "iam", "cloud-platform")
        if found[1] != OTHER:
            raise Refused(403, "Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist).")
        asked = json.loads(body)
        seconds = re.fullmatch(r"(\d+)s", asked.get("lifetime", "3600s"))
        if not seconds or not 0 < int(seconds[1]) <= 3600:
            raise Refused(400, "lifetime is out of range")
        lives = 3600 if self.more == "life" else int(seconds[1])
        return {"accessToken": self._give(OTHER, self._scopes(" ".join(asked.get("scope", []))), lives), "expireTime": self.stamp(lives)}

    def _storage(self, request, body):
        if request.method == "GET" and request.path == "/storage/v1/b/reports/o":
            self._token(request, "devstorage.read_only", "devstorage.read_write", "cloud-platform")
            return {"kind": "storage#objects", "items": [{"kind": "storage#object", "name": "q1.txt", "bucket": "reports"}]}
        if request.method == "POST" and request.path == "/upload/storage/v1/b/reports/o":
            self._token(request, "devstorage.read_write", "cloud-platform")
            return {"kind": "storage#object", "name": "q2.txt", "bucket": "reports", "size": "4"}
        raise Refused(404, "Not Found")
