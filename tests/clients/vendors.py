"""What the vendors' APIs say: GitHub, OpenAI, Anthropic, Slack and AWS, as far as their SDKs look."""

from __future__ import annotations

import asyncio
import json
import re
import time
import zlib

import wire

HOSTS = {
    "api.github.com", "api.openai.com", "api.anthropic.com", "slack.com", "s3.eu-west-1.amazonaws.com",
    "dynamodb.eu-west-1.amazonaws.com",
}


async def answer(upstream, request: wire.Request, reply: wire.Reply) -> None:
    match request.host:
        case "api.github.com":
            await _github(upstream, request, reply)
        case "api.openai.com":
            await _openai(upstream, request, reply)
        case "api.anthropic.com":
            await _anthropic(upstream, request, reply)
        case "slack.com":
            await _slack(upstream, request, reply)
        case "s3.eu-west-1.amazonaws.com":
            await _s3(upstream, request, reply)
        case _:
            await _dynamodb(upstream, request, reply)


async def json_reply(reply: wire.Reply, status: int, value, headers: dict[str, str] | None = None) -> None:
    await reply.send(status, json.dumps(value).encode(), {"content-type": "application/json; charset=utf-8", **(headers or {})})


async def events(reply: wire.Reply, items: list[tuple[str | None, object]], pause: float = 0.03) -> None:
    """Server-sent events, one by one."""
    await reply.start(200, {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"})
    for name, data in items:
        text = data if isinstance(data, str) else json.dumps(data)
        await reply.write(((f"event: {name}\n" if name else "") + f"data: {text}\n\n").encode())
        await asyncio.sleep(pause)
    await reply.end()


# GitHub


async def _github(upstream, request: wire.Request, reply: wire.Reply) -> None:
    rate = {"x-ratelimit-limit": "5000", "x-ratelimit-remaining": "4999", "x-ratelimit-reset": "4102444800", "x-github-request-id": "TEST"}
    if request.header("authorization").split(" ")[-1] != upstream.secrets["github"]:
        return await json_reply(reply, 401, {"message": "Bad credentials", "documentation_url": "https://docs.github.com/rest", "status": "401"}, rate)
    body = await request.read()
    path, method = request.path, request.method
    if (method, path) == ("GET", "/user"):
        return await json_reply(reply, 200, _user("triage-bot"), rate)
    if found := re.fullmatch(r"/repos/([^/]+)/([^/]+)(/.*)?", path):
        owner, repo, rest = found[1], found[2], found[3] or ""
        if method == "GET" and rest == "":
            return await json_reply(reply, 200, _repository(owner, repo), rate)
        if method == "GET" and rest == "/issues":
            return await json_reply(reply, 200, [_issue(owner, repo, n, f"Issue {n}") for n in (1, 2)], rate)
        if method == "POST" and rest == "/issues":
            return await json_reply(reply, 201, _issue(owner, repo, 3, json.loads(body)["title"]), rate)
        if method == "GET" and (number := re.fullmatch(r"/issues/(\d+)", rest)):
            return await json_reply(reply, 200, _issue(owner, repo, int(number[1]), "Issue"), rate)
        if method == "POST" and (number := re.fullmatch(r"/issues/(\d+)/comments", rest)):
            comment = {"id": 9, "node_id": "C_9", "body": json.loads(body)["body"], "user": _user("triage-bot")}
            return await json_reply(reply, 201, {**comment, "url": _api(owner, repo, "/issues/comments/9"), "html_url": "https://github.com/c/9", "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z"}, rate)
        if method == "DELETE":
            return await reply.send(204)
    await json_reply(reply, 404, {"message": "Not Found", "documentation_url": "https://docs.github.com/rest", "status": "404"}, rate)


def _api(owner: str, repo: str, rest: str = "") -> str:
    return f"https://api.github.com/repos/{owner}/{repo}{rest}"


def _user(login: str) -> dict:
    return {"login": login, "id": 7, "node_id": "U_7", "type": "Bot", "site_admin": False, "url": f"https://api.github.com/users/{login}", "html_url": f"https://github.com/{login}"}


def _repository(owner: str, repo: str) -> dict:
    return {
        "id": 1, "node_id": "R_1", "name": repo, "full_name": f"{owner}/{repo}", "private": True, "owner": _user(owner),
        "url": _api(owner, repo), "html_url": f"https://github.com/{owner}/{repo}", "default_branch": "main", "description": "A test",
        "issues_url": _api(owner, repo, "/issues{/number}"),
    }


def _issue(owner: str, repo: str, number: int, title: str) -> dict:
    return {
        "id": 100 + number, "node_id": f"I_{number}", "number": number, "title": title, "state": "open", "user": _user("alice"), "labels": [],
        "assignees": [], "body": "text", "url": _api(owner, repo, f"/issues/{number}"), "html_url": f"https://github.com/{owner}/{repo}/issues/{number}",
        "comments_url": _api(owner, repo, f"/issues/{number}/comments"), "comments": 0, "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z",
    }


# OpenAI


async def _openai(upstream, request: wire.Request, reply: wire.Reply) -> None:
    if request.header("authorization") != f"Bearer {upstream.secrets['openai']}":
        error = {"message": "Incorrect API key provided", "type": "invalid_request_error", "param": None, "code": "invalid_api_key"}
        return await json_reply(reply, 401, {"error": error})
    asked = json.loads(await request.read() or b"{}")
    model, made = asked.get("model", "gpt-test"), int(time.time())
    match (request.method, request.path):
        case ("POST", "/v1/chat/completions") if asked.get("stream"):
            head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": made, "model": model}
            deltas = [{"role": "assistant", "content": ""}, *({"content": w} for w in ("Hello", " from", " upstream"))]
            chunks = [{**head, "choices": [{"index": 0, "delta": d, "finish_reason": None}]} for d in deltas]
            chunks.append({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
            await events(reply, [(None, c) for c in chunks] + [(None, "[DONE]")])
        case ("POST", "/v1/chat/completions"):
            message = {"role": "assistant", "content": "Hello from upstream", "refusal": None}
            choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
            await json_reply(reply, 200, {"id": "chatcmpl-1", "object": "chat.completion", "created": made, "model": model, "choices": [choice], "usage": {"prompt_tokens": 1, "completion_tokens": 3, "total_tokens": 4}})
        case ("POST", "/v1/responses") if asked.get("stream"):
            whole = _response(model, made)
            deltas = [("response.output_text.delta", {"type": "response.output_text.delta", "item_id": "msg_1", "output_index": 0, "content_index": 0, "delta": w, "sequence_number": i + 1, "logprobs": []}) for i, w in enumerate(("Hello", " from", " upstream"))]
            start = ("response.created", {"type": "response.created", "sequence_number": 0, "response": {**whole, "status": "in_progress", "output": []}})
            await events(reply, [start, *deltas, ("response.completed", {"type": "response.completed", "sequence_number": 9, "response": whole})])
        case ("POST", "/v1/responses"):
            await json_reply(reply, 200, _response(model, made))
        case ("POST", "/v1/embeddings"):
            data = [{"object": "embedding", "index": 0, "embedding": [0.0, 0.5, 1.0]}]
            await json_reply(reply, 200, {"object": "list", "data": data, "model": model, "usage": {"prompt_tokens": 1, "total_tokens": 1}})
        case ("GET", "/v1/models"):
            await json_reply(reply, 200, {"object": "list", "data": [{"id": "gpt-test", "object": "model", "created": made, "owned_by": "test"}]})
        case _:
            await json_reply(reply, 404, {"error": {"message": "Unknown request URL", "type": "invalid_request_error", "param": None, "code": "unknown_url"}})


def _response(model: str, made: int) -> dict:
    text = {"type": "output_text", "text": "Hello from upstream", "annotations": [], "logprobs": []}
    message = {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "content": [text]}
    return {"id": "resp_1", "object": "response", "created_at": made, "status": "completed", "model": model, "output": [message], "parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "error": None, "incomplete_details": None, "instructions": None, "metadata": {}, "temperature": 1.0, "top_p": 1.0}


# Anthropic


async def _anthropic(upstream, request: wire.Request, reply: wire.Reply) -> None:
    if request.header("x-api-key") != upstream.secrets["anthropic"]:
        return await json_reply(reply, 401, {"type": "error", "error": {"type": "authentication_error", "message": "invalid x-api-key"}})
    asked = json.loads(await request.read() or b"{}")
    if (request.method, request.path) != ("POST", "/v1/messages"):
        return await json_reply(reply, 404, {"type": "error", "error": {"type": "not_found_error", "message": "Not found"}})
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": asked["model"], "stop_sequence": None, "usage": {"input_tokens": 1, "output_tokens": 3}}
    if not asked.get("stream"):
        return await json_reply(reply, 200, {**head, "content": [{"type": "text", "text": "Hello from upstream"}], "stop_reason": "end_turn"})
    deltas = [("content_block_delta", {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": w}}) for w in ("Hello", " from", " upstream")]
    await events(reply, [
        ("message_start", {"type": "message_start", "message": {**head, "content": [], "stop_reason": None}}),
        ("content_block_start", {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        *deltas,
        ("content_block_stop", {"type": "content_block_stop", "index": 0}),
        ("message_delta", {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": {"output_tokens": 3}}),
        ("message_stop", {"type": "message_stop"}),
    ])


# Slack


async def _slack(upstream, request: wire.Request, reply: wire.Reply) -> None:
    if request.header("authorization") != f"Bearer {upstream.secrets['slack']}":
        return await json_reply(reply, 200, {"ok": False, "error": "invalid_auth"})
    await request.read()
    match request.path:
        case "/api/auth.test":
            await json_reply(reply, 200, {"ok": True, "url": "https://acme.slack.com/", "team": "acme", "user": "bot", "team_id": "T1", "user_id": "U1"})
        case "/api/chat.postMessage":
            await json_reply(reply, 200, {"ok": True, "channel": "C1", "ts": "1.1", "message": {"text": "hello", "ts": "1.1"}})
        case _:
            await json_reply(reply, 200, {"ok": False, "error": "unknown_method"})


# AWS. SigV4 is a later matter: the credential is a header of its own here.


async def _s3(upstream, request: wire.Request, reply: wire.Reply) -> None:
    if request.header("x-acme-access") != upstream.secrets["aws"]:
        body = b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>InvalidAccessKeyId</Code><Message>No such key</Message><RequestId>1</RequestId></Error>'
        return await reply.send(403, body, {"content-type": "application/xml"})
    if request.method == "GET" and request.path == "/":
        body = b'<?xml version="1.0" encoding="UTF-8"?><ListAllMyBucketsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Owner><ID>1</ID></Owner><Buckets><Bucket><Name>reports</Name><CreationDate>2026-01-01T00:00:00.000Z</CreationDate></Bucket></Buckets></ListAllMyBucketsResult>'
        return await reply.send(200, body, {"content-type": "application/xml"})
    await request.read()
    await reply.send(200, b"quarterly figures", {"content-type": "text/plain", "etag": '"1"', "last-modified": "Thu, 01 Jan 2026 00:00:00 GMT"})


async def _dynamodb(upstream, request: wire.Request, reply: wire.Reply) -> None:
    headers = {"content-type": "application/x-amz-json-1.0", "x-amzn-requestid": "TEST"}
    if request.header("x-acme-access") != upstream.secrets["aws"]:
        return await reply.send(400, b'{"__type":"com.amazon.coral.service#UnrecognizedClientException","message":"The security token included in the request is invalid."}', headers)
    await request.read()
    body = b'{"TableNames":["orders"]}'
    await reply.send(200, body, {**headers, "x-amz-crc32": str(zlib.crc32(body))})
