"""A GitHub that knows Apps: it verifies what an App signs, gives installation tokens of what was asked, holds
them to it on every call and in git, and takes them back. What it does not take it refuses as GitHub does."""

from __future__ import annotations

import base64
import json
import re
import secrets

import jwt
import repositories
import wire
from issuers import Fake, Refused, rsa_pem
from vendors import _issue, _repository, _user

API, GIT = "api.github.com", "github.com"
LEVELS = {"read": 0, "write": 1, "admin": 2}


class GitHub(Fake):
    HOSTS = (API, GIT)

    def __init__(self, folder):
        super().__init__(folder)
        self.app = "77"
        self.pem, self.public = rsa_pem(pkcs1=True)
        granted = {"issues": "write", "contents": "write", "metadata": "read", "members": "read"}
        self.installations = {
            5: {"account": "acme", "repositories": ["web", "docs", "secret"], "permissions": granted, "suspended": False},
            6: {"account": "other", "repositories": ["web"], "permissions": {"issues": "read", "metadata": "read"}, "suspended": False},
        }
        self.tokens: dict[str, dict] = {}
        self.more: str | None = None  # in what it gives more than was asked
        self.git = repositories.Repositories(folder / "git")

    def live(self) -> list[str]:
        return [t for t, facts in self.tokens.items() if not facts["revoked"]]

    def streams(self, request: wire.Request) -> bool:
        return request.host == GIT

    async def answer(self, request, reply, body):
        try:
            if request.host == GIT:
                return await self._git(request, reply)
            if not request.header("user-agent"):
                raise Refused(403, "Request forbidden by administrative rules. Please make sure your request has a User-Agent header")
            kind, _, presented = request.header("authorization").partition(" ")
            if kind.lower() not in ("bearer", "token"):
                raise Refused(401, "Requires authentication")
            if request.path.startswith("/app/") or request.path.endswith("/installation"):
                self._app(presented)
                if await self.misbehave(reply):
                    return
                return await self._for_app(request, reply, body)
            await self._for_token(request, reply, body, presented)
        except Refused as refused:
            await self.json(reply, refused.status, {"message": refused.message, "documentation_url": "https://docs.github.com/rest", "status": str(refused.status)})

    # What an App may ask

    def _app(self, presented: str) -> None:
        try:
            claims = jwt.decode(presented, self.public, algorithms=["RS256"], options={"verify_exp": False, "verify_iat": False, "require": ["iss", "iat", "exp"]})
        except jwt.InvalidTokenError as error:
            raise Refused(401, "A JSON web token could not be decoded") from error
        if claims["iss"] != self.app:
            raise Refused(401, "Integration not found")
        if not isinstance(claims["iat"], int) or claims["iat"] > self.now():
            raise Refused(401, "'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued")
        if not isinstance(claims["exp"], int) or claims["exp"] <= self.now():
            raise Refused(401, "'Expiration time' claim ('exp') must be a numeric value representing the future time at which the assertion expires")
        if claims["exp"] > self.now() + 600:
            raise Refused(401, "'Expiration time' claim ('exp') is too far in the future")

    async def _for_app(self, request, reply, body):
        if found := re.fullmatch(r"/repos/([^/]+)/([^/]+)/installation", request.path):
            for number, facts in self.installations.items():
                if facts["account"] == found[1].lower() and found[2] in facts["repositories"]:
                    return await self.json(reply, 200, {"id": number, "account": _user(facts["account"])})
            raise Refused(404, "Not Found")
        found = re.fullmatch(r"/app/installations/(\d+)/access_tokens", request.path)
        if not found or request.method != "POST":
            raise Refused(404, "Not Found")
        facts = self.installations.get(int(found[1]))
        if facts is None:
            raise Refused(404, "Not Found")
        if facts["suspended"]:
            raise Refused(403, "This installation has been suspended")
        await self.json(reply, 201, self._give(int(found[1]), facts, body))

    def _give(self, number: int, facts: dict, body: bytes) -> dict:
        try:
            asked = json.loads(body or b"{}")
            names, permissions = asked.get("repositories"), asked.get("permissions", facts["permissions"])
            assert names is None or all(isinstance(n, str) for n in names)
            assert all(v in LEVELS for v in permissions.values())
        except (ValueError, AssertionError, AttributeError) as error:
            raise Refused(400, "Problems parsing JSON") from error
        if names is not None and not set(names) <= set(facts["repositories"]):
            raise Refused(422, "There is at least one repository that does not exist or is not accessible to the parent installation.")
        for name, level in permissions.items():
            if LEVELS[level] > LEVELS.get(facts["permissions"].get(name), -1):
                raise Refused(422, "The permissions requested are not granted to this installation.")
        given = dict(permissions)
        if names != [] and any(p in given for p in ("issues", "contents")):
            given.setdefault("metadata", "read")
        # long ones, as GitHub gives since 2026
        token = f"ghs_{self.app}_{base64.urlsafe_b64encode(secrets.token_bytes(120)).decode().rstrip('=')}"
        match self.more:
            case "permissions":
                given = dict(facts["permissions"])
            case "repositories":
                names = facts["repositories"]
            case "all repositories":
                names = None
        self.tokens[token] = {"installation": number, "account": facts["account"], "repositories": names, "permissions": given, "revoked": False}
        answer = {"token": token, "expires_at": self.stamp(3600), "permissions": given, "repository_selection": "all" if names is None else "selected"}
        if names is not None:
            answer["repositories"] = [_repository(facts["account"], n) for n in names]
        return answer

    # What a token may do

    def _token(self, presented: str) -> dict:
        facts = self.tokens.get(presented)
        if facts is None or facts["revoked"] or self.installations[facts["installation"]]["suspended"]:
            raise Refused(401, "Bad credentials")
        return facts

    def _may(self, facts: dict, owner: str, repo: str, permission: str, level: str) -> None:
        if owner != facts["account"] or (facts["repositories"] is not None and repo not in facts["repositories"]):
            raise Refused(404, "Not Found")
        if LEVELS.get(facts["permissions"].get(permission), -1) < LEVELS[level]:
            raise Refused(403, "Resource not accessible by integration")

    async def _for_token(self, request, reply, body, presented):
        facts = self._token(presented)
        if (request.method, request.path) == ("DELETE", "/installation/token"):
            if self.broken == "revokes nothing":
                raise Refused(500, "Server Error")
            facts["revoked"] = True
            return await self.json(reply, 204, None)
        found = re.fullmatch(r"/repos/([^/]+)/([^/]+)(/.*)?", request.path)
        if not found:
            raise Refused(403, "Resource not accessible by integration")
        owner, repo, rest = found[1], found[2], found[3] or ""
        if (request.method, rest) == ("GET", ""):
            self._may(facts, owner, repo, "metadata", "read")
            return await self.json(reply, 200, _repository(owner, repo))
        if rest == "/issues":
            self._may(facts, owner, repo, "issues", "read" if request.method == "GET" else "write")
            if request.method == "GET":
                return await self.json(reply, 200, [_issue(owner, repo, n, f"Issue {n}") for n in (1, 2)])
            # and says back what it got, which the agent must not see
            title = json.loads(body)["title"]
            return await self.json(reply, 201, {**_issue(owner, repo, 3, title), "body": request.header("authorization")})
        raise Refused(404, "Not Found")

    async def _git(self, request, reply):
        kind, _, pair = request.header("authorization").partition(" ")
        user, _, password = base64.b64decode(pair).decode().partition(":") if kind == "Basic" else ("", "", "")
        owner, repo = request.path.strip("/").split("/")[:2]
        write = "git-receive-pack" in request.target and request.method == "POST"
        try:
            if user != "x-access-token":
                raise Refused(401, "no token")
            self._may(self._token(password), owner, repo.removesuffix(".git"), "contents", "write" if write else "read")
        except Refused as refused:
            return await reply.send(refused.status, b"Repository not found.\n", {"www-authenticate": 'Basic realm="GitHub"', "content-type": "text/plain"})
        await repositories.serve(self.git, request, reply)
