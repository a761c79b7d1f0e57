"""Every reason that can occur, provoked through the built binary with raw sockets.

Each checks status, fields and wording, the decision and outcome on record, and that upstream saw nothing.
"""

import contextlib
import copy
import json
import os
import socket
import subprocess
import time

import pytest
import refusals
import workspace as ws

LAB = "lab.example.test"


def refused(serving, task, reason, method="GET", target="/echo", host=LAB, headers=None, body=b"", **how):
    """One call that is refused, and everything that follows from that."""
    verdict = how.pop("verdict", "deny")
    status = how.pop("status", None)
    answer = serving.call(task, method, host, target, headers, body, **how)
    record = refusals.check(serving.workspace, answer, reason, status, verdict)
    assert serving.workspace.upstream.seen() == [], "upstream saw a refused call"
    return answer, record


def allowed(serving, task, method="GET", target="/echo", host=LAB, headers=None, body=b"", **how):
    answer = serving.call(task, method, host, target, headers, body, **how)
    assert answer.status == 200, (answer.status, answer.headers, answer.body)
    return answer


# who calls


def test_no_task_is_asked_for_by_407(serving, upstream):
    upstream.clear()
    with pytest.raises(ws.Refused) as refusal:
        serving.call(None, "GET", LAB, "/echo")
    answer = refusal.value.answer
    assert answer.status == 407 and answer.header("proxy-authenticate").lower().startswith("basic")
    assert answer.header("remit-reason") == "no_task" and b"no_task" in answer.body
    assert upstream.seen() == []


def test_no_task_in_the_absolute_form(serving, upstream):
    upstream.clear()
    answer = serving.plain(None, b"GET http://plain.lab.example.test/echo HTTP/1.1\r\nHost: plain.lab.example.test\r\n\r\n")
    refusals.check(serving.workspace, answer, "no_task", 407)
    assert answer.header("proxy-authenticate").lower().startswith("basic") and upstream.seen() == []


def test_a_handle_that_was_never_given_is_no_task(serving, upstream):
    upstream.clear()
    with pytest.raises(ws.Refused) as refusal:
        serving.call({"handle": "h-" + "0" * 43}, "GET", LAB, "/echo")
    assert refusal.value.answer.status == 407 and upstream.seen() == []


def test_task_ended(serving, task):
    allowed(serving, task)
    serving.workspace.upstream.clear()
    serving.end(task)
    _, record = refused(serving, task, "task_ended")
    assert (record["agent"], record["task"]) == ("tester", task["id"]), "the record names whose call it was"


def test_task_ended_on_a_connection_that_was_open(serving, task):
    with serving.tunnel(task, LAB) as connection:
        request = f"GET /echo HTTP/1.1\r\nHost: {LAB}\r\n\r\n".encode()
        connection.sendall(request)
        assert ws.read_answer(connection).status == 200
        serving.end(task)
        serving.workspace.upstream.clear()
        connection.sendall(request)
        refusals.check(serving.workspace, ws.read_answer(connection), "task_ended")
    assert serving.workspace.upstream.seen() == []


def test_task_expired(serving, upstream):
    task = serving.task(workflow="brief")
    allowed(serving, task)
    time.sleep(2.2)
    upstream.clear()
    refused(serving, task, "task_expired")


@pytest.mark.parametrize("agent", ["asleep", "gone", "lapsed"])
def test_an_agent_that_is_not_active_gets_no_task(serving, agent):
    reason = {"asleep": "agent_suspended", "gone": "agent_retired", "lapsed": "agent_expired"}[agent]
    done = serving.workspace.remit("task", "start", "--config", serving.file, "--agent", agent, "--workflow", "everything", "--for", "alice@acme.example", "--output", "json")
    assert done.returncode != 0 and reason in done.stdout + done.stderr, (done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"status": "suspended"}, "agent_suspended"), ({"status": "retired"}, "agent_retired"), ({"expires": "2020-01-01T00:00:00Z"}, "agent_expired"), (None, "unknown_agent")],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_a_change_of_the_registry_reaches_a_task_that_runs(work, change, reason):
    with work.serve() as serving:
        task = serving.task()
        allowed(serving, task)
        registry = copy.deepcopy(ws.REGISTRY)
        registry["agents"] = [a for a in registry["agents"] if a["id"] != "tester"] if change is None else registry["agents"]
        if change:
            registry["agents"][0].update(change)
        work.write("registry/agents.yaml", registry)
        ws.until(lambda: serving.call(task, "GET", LAB, "/echo").status != 200, 10, "the changed registry in force")
        work.upstream.clear()
        refused(serving, task, reason)


# what is asked


def test_unknown_host(serving, task):
    refused(serving, task, "unknown_host", host="evil.example.test", target="/")


def test_unknown_operation(serving, task):
    refused(serving, task, "unknown_operation", target="/nowhere")
    refused(serving, task, "unknown_operation", method="PUT", target="/echo")


def test_where_an_answer_leads_may_be_fetched_once_by_that_task_and_without_credential(serving, task):
    files, path = "files.lab.example.test", "/builds/7.log?X-Amz-Signature=c2lnbmVk&X-Amz-Expires=60"
    refused(serving, task, "unknown_host", target=path, host=files)
    answer = serving.call(task, "GET", LAB, f"/redirect?to=https%3A%2F%2F{files}{path.replace('?', '%3F').replace('&', '%26').replace('=', '%3D')}")
    assert (answer.status, answer.header("location")) == (302, f"https://{files}{path}")
    other = serving.task()
    refused_by_other = serving.call(other, "GET", files, path)
    assert refused_by_other.header("remit-reason") == "unknown_host", "another task was not sent there"
    for not_it in (path.replace("7", "8"), path + "&more=1"):
        assert serving.call(task, "GET", files, not_it).header("remit-reason") == "unknown_host"
    assert serving.call(task, "POST", files, path, {}, b"x").header("remit-reason") == "unknown_host"
    fetched = allowed(serving, task, target=path, host=files, headers={"Authorization": "Bearer what-the-client-sends-along", "Cookie": "a=b"})
    assert fetched.body == b"the file\n"
    record = [r for r in serving.workspace.audit() if r["kind"] == "decision" and r.get("host") == files][-1]
    assert record["intents"][0]["id"] == "lab.redirect.read" and "lease" not in record, record
    again = serving.call(task, "GET", files, path)
    assert again.header("remit-reason") == "unknown_host", "once"


def test_an_upgrade_that_the_operation_does_not_declare(serving, task):
    refused(serving, task, "unknown_operation", headers={"connection": "upgrade", "upgrade": "websocket", "sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA==", "sec-websocket-version": "13"})


# what was decided


def test_not_granted(serving, task):
    answer, record = refused(serving, task, "not_granted", target="/vault/gold")
    problem = answer.json()
    assert problem["agent"] == "tester" and problem["task"] == task["id"] and problem["intents"] == ["lab.vault.read"]
    assert "lab.vault.read" in problem["detail"] and "tests@acme.example" in problem["next"], problem
    assert record["agent"] == "tester" and record["task"] == task["id"] and record["host"] == LAB
    assert record["intents"][0]["params"] == {"name": "gold"}


def test_not_granted_in_problem_details_to_whom_asks_for_them(serving, task):
    answer, _ = refused(serving, task, "not_granted", target="/simple/evil-tool/", host="pip.example.test", headers={"accept": "application/problem+json"})
    assert answer.header("content-type").startswith("application/problem+json")


def test_the_status_line_names_the_reason(serving, task):
    answer, _ = refused(serving, task, "not_granted", target="/vault/gold")
    assert "not_granted" in answer.reason


@pytest.mark.parametrize(
    ("host", "method", "target", "find"),
    [
        ("s3.eu-west-1.amazonaws.com", "GET", "/", lambda b: b"<Code>AccessDenied</Code>" in b and b"<Message>" in b),
        ("slack.com", "POST", "/api/chat.postMessage", lambda b: json.loads(b)["ok"] is False and json.loads(b)["error"] == "not_granted"),
        ("npm.example.test", "GET", "/evil-tool", lambda b: "not_granted" in json.loads(b)["error"]),
        ("pip.example.test", "GET", "/simple/evil-tool/", lambda b: b"not_granted" in b and not b.startswith(b"{")),
    ],
    ids=["aws", "slack", "npm", "plain"],
)
def test_the_form_is_the_providers(serving, task, host, method, target, find):
    headers = {"content-type": "application/json"} if method == "POST" else None
    answer, _ = refused(serving, task, "not_granted", method=method, target=target, host=host, headers=headers, body=b"{}" if method == "POST" else b"")
    assert find(answer.body), answer.body


def test_a_head_request_is_refused_without_a_body(serving, task):
    answer = serving.call(task, "HEAD", LAB, "/vault/gold")
    assert answer.body == b"" and answer.header("remit-reason") in ("not_granted", "unknown_operation")
    assert serving.workspace.upstream.seen() == []


def test_a_refusal_leaves_the_connection_usable(serving, task):
    with serving.tunnel(task, LAB) as connection:
        for target, status in (("/vault/gold", 403), ("/echo", 200), ("/nowhere", 403), ("/echo", 200)):
            connection.sendall(f"GET {target} HTTP/1.1\r\nHost: {LAB}\r\n\r\n".encode())
            assert ws.read_answer(connection).status == status


def test_guardrail(serving, task):
    answer, record = refused(serving, task, "guardrail", target="/status/299")
    assert "status 299 is nobody's business" in answer.body.decode() and any("299" in r for r in record["reasons"])
    allowed(serving, task, target="/status/200")


def test_approval_required(serving, task):
    refused(serving, task, "approval_required", method="DELETE", verdict="ask")


def test_limit_exceeded_for_the_task(serving, task):
    for _ in range(3):
        allowed(serving, task, target="/trailers")
    serving.workspace.upstream.clear()
    answer, _ = refused(serving, task, "limit_exceeded", target="/trailers")
    assert "retry-after" not in answer.headers
    other = serving.task()
    allowed(serving, other, target="/trailers")


def test_limit_exceeded_that_time_restores(serving, upstream):
    upstream.clear()
    task = serving.task(workflow="minutely")
    allowed(serving, task)
    allowed(serving, task)
    upstream.clear()
    answer, _ = refused(serving, task, "limit_exceeded", status=429)
    assert 0 < int(answer.header("retry-after")) <= 60


def test_a_limit_is_not_spent_by_what_did_not_leave(serving, task):
    for _ in range(5):
        serving.call(task, "GET", "closed.lab.example.test", "/trailers")
    serving.workspace.upstream.clear()
    allowed(serving, task, target="/trailers")


# credentials


TOKEN = "ghp_" + "A1b2C3d4E5f6" * 3


@pytest.mark.parametrize(
    ("method", "target", "body"),
    [("GET", f"/echo?q={TOKEN}", b""), ("GET", f"/echo/{TOKEN}", b""), ("POST", "/echo", json.dumps({"title": f"use {TOKEN}"}).encode())],
    ids=["query", "path", "body"],
)
def test_foreign_credential(serving, task, method, target, body):
    headers = {"content-type": "application/json"} if body else None
    answer, _ = refused(serving, task, "foreign_credential", method=method, target=target, headers=headers, body=body)
    assert TOKEN.encode() not in answer.body
    log = b"".join(p.read_bytes() for p in serving.workspace.audit_folder.rglob("*") if p.is_file())
    assert TOKEN.encode() not in log, "a credential is not put on record"


def test_the_injected_secret_itself_is_foreign_too(serving, task):
    secret = serving.workspace.upstream.secrets["lab"]
    body = json.dumps({"title": secret}).encode()
    answer, _ = refused(serving, task, "foreign_credential", method="POST", headers={"content-type": "application/json"}, body=body)
    assert secret.encode() not in answer.body


@pytest.mark.parametrize("field", ["authorization", "x-api-key", "cookie"])
def test_an_agents_own_credential_is_dropped_not_forwarded(serving, task, field):
    value = {"authorization": f"Bearer {TOKEN}", "x-api-key": TOKEN, "cookie": f"session={TOKEN}"}[field]
    allowed(serving, task, headers={field: value})
    (seen,) = serving.workspace.upstream.seen()
    assert seen.header("x-api-key") == serving.workspace.upstream.secrets["lab"]
    assert not seen.holds(value) and not seen.holds(TOKEN)


def test_a_proxy_credential_inside_the_tunnel_goes_no_further(serving, task):
    answer = serving.call(task, "GET", LAB, "/echo", {"proxy-authorization": "Basic dGFzazp4"})
    assert answer.status == 407 and serving.workspace.upstream.seen() == []


def test_credential_unavailable(serving, upstream):
    """The grant names a credential that does not go to this host: no other takes its place."""
    upstream.clear()
    refused(serving, serving.task(workflow="mismatched"), "credential_unavailable")


def test_a_secret_in_a_file_is_read_anew_when_it_changes(work):
    work.write("lab.key", "wrong as yet")
    credentials = {**ws.CREDENTIALS, "lab": {**ws.CREDENTIALS["lab"], "secret": {"file": "lab.key"}}}
    with work.serve(credentials=credentials) as serving:
        task = serving.task()
        assert serving.call(task, "GET", LAB, "/echo").status == 401
        key = work.write("lab.key", work.upstream.secrets["lab"])
        ws.until(lambda: serving.call(task, "GET", LAB, "/echo").status == 200, 10, "the new secret in force")
        key.unlink()
        assert serving.call(task, "GET", LAB, "/echo").status == 200, "a file that is gone for a moment ends nothing"


# what can be read two ways


PATHS = {
    "dot-segments": "/echo/../vault/gold", "encoded dots": "/echo/%2e%2e/vault/gold", "half-encoded dots": "/echo/.%2E/vault", "dots with a parameter": "/echo/..;/vault/gold",
    "path parameter": "/echo;v=1", "empty segment": "//echo", "encoded slash": "/echo/a%2Fb", "backslash": "/echo\\..\\vault", "encoded backslash": "/echo/..%5Cvault",
    "NUL": "/echo/a%00b", "half an escape": "/echo/a%2", "invalid UTF-8": "/echo/a%c0%ae", "a dot": "/./echo",
}


@pytest.mark.parametrize("name", PATHS)
def test_ambiguous_paths(serving, task, name):
    refused(serving, task, "ambiguous_request", target=PATHS[name])


BODIES = {
    "a key twice": b'{"title": "a", "title": "b"}',
    "a key twice, once escaped": b'{"title": "a", "\\u0074itle": "b"}',
    "a key in two cases": b'{"title": "a", "Title": "b"}',
    "not JSON": b'{"title": ',
    "text after the end": b'{"title": "a"} {"title": "b"}',
    "a byte order mark": b'\xef\xbb\xbf{"title": "a"}',
    "not UTF-8": b'{"title": "\xff"}',
}


@pytest.mark.parametrize("name", BODIES)
def test_ambiguous_bodies(serving, task, name):
    refused(serving, task, "ambiguous_request", method="POST", headers={"content-type": "application/json"}, body=BODIES[name])


def test_one_parameter_with_two_values(serving, task):
    headers = {"content-type": "application/json"}
    refused(serving, task, "ambiguous_request", method="POST", target="/echo/acme", headers=headers, body=b'{"owner": "evil"}')
    refused(serving, task, "ambiguous_request", target="/echo?q=1&q=2")
    refused(serving, task, "ambiguous_request", target="/echo?q=1&%71=2")
    allowed(serving, task, method="POST", target="/echo/acme", headers=headers, body=b'{"owner": "acme"}')


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("two hosts", ["Host: lab.example.test", "Host: lab.example.test"]),
        ("no host", []),
        ("length and chunked", ["Host: lab.example.test", "Content-Length: 5", "Transfer-Encoding: chunked"]),
    ],
)
def test_ambiguous_heads(serving, task, name, lines):
    data = "\r\n".join(["POST /echo HTTP/1.1", *lines, "", ""]).encode() + b"0\r\n\r\n"
    answer = serving.raw(task, LAB, data)
    refusals.check(serving.workspace, answer, "ambiguous_request")
    assert serving.workspace.upstream.seen() == []


SMUGGLED = f"GET /echo/smuggled HTTP/1.1\r\nHost: {LAB}\r\n\r\n"


@pytest.mark.parametrize(
    "head",
    {
        "length and chunked": "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n",
        "chunked and length": "Transfer-Encoding: chunked\r\nContent-Length: 6\r\n",
        "two lengths": "Content-Length: 0\r\nContent-Length: 6\r\n",
        "a list of lengths": "Content-Length: 0, 6\r\n",
        "a signed length": "Content-Length: +0\r\n",
        "an unknown coding": "Transfer-Encoding: xchunked\r\n",
        "chunked, then identity": "Transfer-Encoding: chunked, identity\r\n",
        "two codings": "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "a space before the colon": "Transfer-Encoding : chunked\r\n",
        "a folded line": "X-A: b\r\n c: d\r\nTransfer-Encoding:\r\n chunked\r\n",
        "a bare carriage return": "X-A: b\rTransfer-Encoding: chunked\r\n",
        "a NUL": "X-A: b\0c\r\n",
        "a field without a name": ": b\r\n",
        "a name with a space": "X A: b\r\n",
    }.items(),
    ids=lambda item: item[0],
)
def test_nothing_is_smuggled(serving, task, head):
    """Refused as a whole, by 400 or by closing, and what stood behind it is not taken for a request."""
    data = f"POST /sink HTTP/1.1\r\nHost: {LAB}\r\n{head[1]}\r\n0\r\n\r\n{SMUGGLED}".encode()
    known, told = {r["id"] for r in serving.workspace.audit() if r["kind"] == "decision"}, None
    with serving.tunnel(task, LAB) as connection:
        connection.sendall(data)
        with contextlib.suppress(OSError):
            answer = ws.read_answer(connection)
            assert answer.status in (400, 501), (answer.status, answer.body)
            assert answer.header("remit-reason") == "ambiguous_request" and answer.header("remit-decision"), answer
            assert b"ambiguous_request" in answer.body, answer.body
            told = answer.header("remit-decision")
            # and the connection ends there
            connection.settimeout(5)
            with contextlib.suppress(ConnectionError):
                assert connection.recv(1) == b""
    assert not any("smuggled" in s.target for s in serving.workspace.upstream.seen())
    assert serving.workspace.upstream.seen() == []

    def on_record():
        return [r for r in serving.workspace.audit() if r["kind"] == "decision" and r["id"] not in known and r["code"] == "ambiguous_request"]

    record = ws.until(on_record, what="the refusal on record")[0]
    assert told is None or record["id"] == told
    refusals.pair(serving.workspace, record["id"], "ambiguous_request", 400)


@pytest.mark.parametrize("size", [200 << 10, 20 << 20], ids=["200 KiB", "20 MiB"])
@pytest.mark.parametrize("target", ["/nowhere", "/echo"], ids=["unknown operation", "not granted"])
def test_a_client_that_is_still_sending_hears_the_refusal(serving, task, target, size):
    """It sends all before it reads; closing on it would show it a broken connection and no reason."""
    reason = "unknown_operation" if target == "/nowhere" else "unknown_host"
    host = LAB if target == "/nowhere" else "nobody.example.test"
    refused(serving, task, reason, "POST", target, host=host, headers={"Content-Type": "application/octet-stream"}, body=b"x" * size)


def test_a_head_that_is_too_large_is_answered_with_the_reason(serving, task):
    with serving.tunnel(task, LAB) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(f"GET /echo HTTP/1.1\r\nHost: {LAB}\r\nX-Large: {'x' * (80 << 10)}\r\n\r\n".encode())
        answer = ws.read_answer(connection)
    assert (answer.status, answer.header("remit-reason")) == (431, "ambiguous_request"), answer
    assert b"limits.header_bytes" in answer.body and serving.workspace.upstream.seen() == []
    refusals.pair(serving.workspace, answer.header("remit-decision"), "ambiguous_request", 431)


def test_http_1_0_may_not_be_chunked(serving, task):
    data = f"POST /sink HTTP/1.0\r\nHost: {LAB}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".encode()
    with contextlib.suppress(ConnectionError):
        assert serving.raw(task, LAB, data).status == 400
    assert serving.workspace.upstream.seen() == []


def test_a_user_name_in_the_target_is_refused(serving, task):
    answer = serving.plain(task, b"GET http://plain.lab.example.test@evil.example.test/ HTTP/1.1\r\nHost: evil.example.test\r\n@AUTH@\r\n")
    assert answer.status == 400 and serving.workspace.upstream.seen() == []


def test_host_and_target_must_agree(serving, task):
    answer = serving.plain(task, b"GET http://plain.lab.example.test/echo HTTP/1.1\r\nHost: evil.example.test\r\n@AUTH@\r\n")
    refusals.check(serving.workspace, answer, "ambiguous_request")
    assert serving.workspace.upstream.seen() == []


# where it goes


def test_misdirected_by_host(serving, task):
    refused(serving, task, "misdirected", headers={"host": "api.github.com"})


def test_misdirected_by_sni(serving, task):
    """TLS for another name than was asked for by CONNECT."""
    try:
        answer = serving.call(task, "GET", LAB, "/echo", sni="pip.example.test")
    except OSError:
        pass  # the handshake itself may be refused
    else:
        refusals.check(serving.workspace, answer, "misdirected")
    assert serving.workspace.upstream.seen() == []


def test_misdirected_in_the_absolute_form_inside(serving, task):
    answer = serving.raw(task, LAB, f"GET https://api.github.com/user HTTP/1.1\r\nHost: {LAB}\r\n\r\n".encode())
    refusals.check(serving.workspace, answer, "misdirected")
    assert serving.workspace.upstream.seen() == []


def test_address_forbidden(work):
    with work.serve(upstream={"resolve": work.upstream.resolve()}) as serving:
        task = serving.task()
        answer = serving.call(task, "GET", LAB, "/echo")
        refusals.check(work, answer, "address_forbidden")
        assert work.upstream.seen() == []


@pytest.mark.parametrize("address", ["169.254.169.254:80", "10.0.0.1:443", "[::1]:443", "[::ffff:169.254.169.254]:443", "0.0.0.0:443"])
def test_addresses_that_may_not_be_reached(work, address):
    resolve = {**work.upstream.resolve(), LAB: address}
    with work.serve(upstream={"resolve": resolve, "allow_addresses": ["127.0.0.0/8"]}) as serving:
        answer = serving.call(serving.task(), "GET", LAB, "/echo")
        refusals.check(work, answer, "address_forbidden")


def test_upstream_unreachable(serving, task):
    refused(serving, task, "upstream_unreachable", host="closed.lab.example.test")


def test_upstream_unreachable_when_it_speaks_no_tls(work):
    credentials = {**ws.CREDENTIALS, "lab": {**ws.CREDENTIALS["lab"], "hosts": [*ws.CREDENTIALS["lab"]["hosts"], "clear.lab.example.test"]}}
    with work.serve(credentials=credentials) as serving:
        refused(serving, serving.task(), "upstream_unreachable", host="clear.lab.example.test")


def test_upstream_unreachable_when_nobody_vouches_for_it(work):
    """Upstream's certificate is by a CA that is not configured: TLS verification is never waived."""
    with work.serve(tls={"ca": "ephemeral", "publish": "ca.pem", "upstream_roots": ["mozilla"]}) as serving:
        refused(serving, serving.task(), "upstream_unreachable")


def test_upstream_timeout(work):
    with work.serve(timeouts={"first_byte": "1s"}) as serving:
        began = time.monotonic()
        answer = serving.call(serving.task(), "GET", LAB, "/hang?s=20")
        assert time.monotonic() - began < 8
        refusals.check(work, answer, "upstream_timeout")
        assert len(work.upstream.seen()) == 1, "it left, and is not sent twice"


@pytest.mark.parametrize("host", ["h1.lab.example.test", "h2.lab.example.test"])
def test_upstream_that_closes_without_an_answer(serving, task, host):
    answer = serving.call(task, "GET", host, "/close")
    assert answer.status == 502 and answer.header("remit-reason") == "upstream_unreachable"
    assert len(serving.workspace.upstream.seen()) == 1, "a request that left is never sent again"


# size and load


@pytest.mark.parametrize("chunked", [False, True], ids=["announced", "chunked"])
def test_body_too_large(serving, task, chunked):
    body = b'{"title": "' + b"a" * (1100 << 10) + b'"}'
    headers = {"content-type": "application/json"}
    if chunked:
        headers["transfer-encoding"] = "chunked"
        body = b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in (body[i : i + 65536] for i in range(0, len(body), 65536))) + b"0\r\n\r\n"
    refused(serving, task, "body_too_large", method="POST", headers=headers, body=body)


def test_a_body_that_need_not_be_judged_has_no_bound(serving, task):
    body = os.urandom(3 << 20)
    answer = allowed(serving, task, method="POST", target="/sink", body=body)
    assert answer.json()["bytes"] == len(body)


def test_overloaded_by_bodies(work):
    with work.serve(limits={"body": {"default": "64KiB", "llm": "64KiB", "total": "64KiB"}}) as serving:
        task = serving.task()
        body = b'{"title": "' + b"a" * 40000 + b'"}'
        head = f"POST /echo HTTP/1.1\r\nHost: {LAB}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        with serving.tunnel(task, LAB) as slow:
            slow.sendall(head + body[:-1])
            time.sleep(0.5)
            answer = serving.call(task, "POST", LAB, "/echo", {"content-type": "application/json"}, body)
            refusals.check(work, answer, "overloaded")
            assert work.upstream.seen() == []
            slow.sendall(body[-1:])
            assert ws.read_answer(slow).status == 200
        allowed(serving, task, method="POST", headers={"content-type": "application/json"}, body=body)


# what fails


FAILING = """package remit.guardrails

import rego.v1

deny contains "too big" if {
	input.intent.id == "lab.echo.named"
	to_number(input.intent.params.name) > 5
}
"""

LASTING = """package remit.guardrails

import rego.v1

deny contains "never true" if {
	input.intent.id == "lab.echo.named"
	count([x | some a in numbers.range(1, 3000); some b in numbers.range(1, 3000); x := (a * b) % 7; x == 8]) > 0
}
"""


def test_policy_failed_by_a_builtin(work):
    with work.serve(guardrails=FAILING) as serving:
        task = serving.task()
        allowed(serving, task, target="/echo/3")
        work.upstream.clear()
        refused(serving, task, "policy_failed", target="/echo/three")
        refused(serving, task, "guardrail", target="/echo/7")


def test_policy_failed_by_time(work):
    with work.serve(guardrails=LASTING) as serving:
        task = serving.task()
        began = time.monotonic()
        refused(serving, task, "policy_failed", target="/echo/there")
        assert time.monotonic() - began < 5, "an evaluation has a bound"
        allowed(serving, task)


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        ("package remit.guardrails\n\nimport rego.v1\n\ndeny contains x if {\n", "guardrails.rego"),
        ("package remit.guardrails\n\nimport rego.v1\n\nf(x) := g(x)\n\ng(x) := f(x)\n\ndeny contains \"x\" if f(1) == 1\n", "recurs"),
        ("package remit.guardrails\n\nimport rego.v1\n\ndeny contains \"x\" if input.intent.param.repo == \"web\"\n", "param"),
        ("package remit.guardrail\n\nimport rego.v1\n\ndeny contains \"x\" if input.intent.id == \"a\"\n", "guardrail"),
    ],
    ids=["does not compile", "recursion", "a path outside the contract", "a package nobody reads"],
)
def test_a_policy_that_would_fail_open_is_refused_at_load(work, policy, says):
    done = work.remit("check", "--config", work.configure(guardrails=policy))
    assert done.returncode == 1 and says in done.stdout + done.stderr, (done.stdout, done.stderr)
    assert "guardrails.rego" in done.stdout + done.stderr
    done = work.remit("serve", "--config", work.configure(guardrails=policy, listen={"forward": f"127.0.0.1:{ws.free_port()}"}), timeout=15)
    assert done.returncode == 1


@pytest.fixture
def small_disk(work):
    """The audit's folder on a file system of 1 MiB."""
    work.audit_folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(work.audit_folder)], check=True)
    yield work.audit_folder
    subprocess.run(["umount", "-l", str(work.audit_folder)], check=True)


def test_a_full_disk_fails_closed_and_recovers_by_itself(work, small_disk):
    with work.serve() as serving:
        task = serving.task()
        allowed(serving, task)
        filler = small_disk / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as f:
            while True:
                f.write(b"x" * 512)
        for _ in range(50):
            work.upstream.clear()
            answer = serving.call(task, "GET", LAB, "/echo")
            if answer.status != 200:
                break
        refusals.check(work, answer, "audit_unavailable", recorded=False)
        assert work.upstream.seen() == [], "what cannot be recorded does not leave"
        ws.until(lambda: not serving.ready(), 5, "readiness says so")
        filler.unlink()
        ws.until(lambda: serving.call(task, "GET", LAB, "/echo").status == 200, 15, "the audit is back by itself")
        ws.until(serving.ready, 5, "ready again")
        assert work.remit("audit", "verify", small_disk).returncode in (0, 1)


def test_connections_past_the_limit_are_turned_away(work):
    with work.serve(limits={"connections": 4}) as serving:
        task = serving.task()
        held = [socket.create_connection(serving.address) for _ in range(4)]
        time.sleep(0.3)
        with pytest.raises(ws.Refused) as refusal:
            serving.call(task, "GET", LAB, "/echo")
        assert refusal.value.answer.status == 503 and refusal.value.answer.header("remit-reason") == "overloaded"
        for connection in held:
            connection.close()
        ws.until(lambda: answers(serving, task), 5, "room again")


def answers(serving, task) -> bool:
    try:
        return serving.call(task, "GET", LAB, "/echo").status == 200
    except ws.Refused:
        return False
