"""Bodies, streams and connections: what passes as it arrives, what is bounded, and what ends when."""

import base64
import concurrent.futures
import contextlib
import hashlib
import json
import os
import signal
import socket
import ssl
import subprocess
import threading
import time
import zlib

import grpc
import httpx
import pytest
import relay
import websockets.exceptions
import websockets.sync.client
import workspace as ws

LAB = "lab.example.test"
H1, H2 = "h1.lab.example.test", "h2.lab.example.test"
MIB = 1 << 20


def client(serving, task, http2=False, **more) -> httpx.Client:
    context = ssl.create_default_context(cafile=str(serving.workspace.folder / "ca.pem"))
    proxy = f"http://task:{task['handle']}@127.0.0.1:{serving.port}"
    return httpx.Client(proxy=proxy, verify=context, http2=http2, trust_env=False, timeout=30, **more)


def head(method, target, *lines, host=LAB) -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/1.1", f"Host: {host}", *lines, "", ""]).encode()


# as it arrives


@pytest.mark.parametrize("http2", [False, True], ids=["h1", "h2"])
def test_server_sent_events_pass_as_they_arrive(serving, task, http2):
    with client(serving, task, http2) as http, http.stream("GET", f"https://{LAB}/ticks?n=6&ms=200") as answer:
        at = [time.monotonic() for part in answer.iter_bytes() if part.strip()]
    gaps = [b - a for a, b in zip(at, at[1:])]
    assert len(at) == 6 and min(gaps) > 0.08 and max(gaps) < 0.6, gaps


def test_a_body_passes_up_as_it_arrives(serving, task):
    """Each part comes back before the next one is sent."""
    with serving.tunnel(task, LAB) as connection:
        connection.sendall(head("POST", "/drip", "Transfer-Encoding: chunked"))
        held = b""
        for n in range(5):
            connection.sendall(b"5\r\npart%d\r\n" % n)
            connection.settimeout(5)
            while b"part%d" % n not in held:
                held += connection.recv(4096)
        connection.sendall(b"0\r\n\r\n")


@pytest.mark.parametrize("host", [H1, H2])
@pytest.mark.parametrize("http2", [False, True], ids=["h1", "h2"])
def test_both_versions_on_both_sides(serving, task, http2, host):
    body = os.urandom(3 * MIB)
    with client(serving, task, http2) as http:
        for _ in range(3):
            answer = http.post(f"https://{host}/sink", content=body)
            assert answer.status_code == 200 and answer.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
            assert answer.json()["sha256"] == hashlib.sha256(body).hexdigest()
            assert answer.json()["protocol"] == ("h1" if host == H1 else "h2")


def test_curl_speaks_http2_on_both_sides(serving, task):
    command = ["curl", "-sS", "--http2", "--proxy", task["proxy"], "--cacert", str(serving.workspace.folder / "ca.pem"), "-w", "\n%{http_version}", f"https://{H2}/echo"]
    out = subprocess.run(command, capture_output=True, text=True, env=serving.workspace.environment(), timeout=30)
    body, version = out.stdout.rsplit("\n", 1)
    assert version == "2" and json.loads(body)["protocol"] == "h2", out


@pytest.mark.parametrize("host", [H1, H2])
def test_trailers_of_an_answer_pass(serving, task, host):
    with serving.tunnel(task, host) as connection:
        connection.sendall(head("GET", "/trailers", "TE: trailers", host=host))
        data = b""
        while not data.endswith(b"\r\n\r\n") or b"\r\n0\r\n" not in data:
            data += connection.recv(4096)
    wanted = hashlib.sha256(b"body\n").hexdigest().encode()
    assert b"x-checksum: " + wanted in data.lower(), data


@pytest.mark.parametrize("host", [H1, H2])
def test_trailers_of_a_request_pass(serving, task, host):
    with serving.tunnel(task, host) as connection:
        connection.sendall(head("POST", "/sink", "Transfer-Encoding: chunked", "Trailer: x-sum", host=host) + b"2\r\nok\r\n0\r\nX-Sum: 42\r\n\r\n")
        assert ["x-sum", "42"] in [[k.lower(), v] for k, v in ws.read_answer(connection).json()["trailers"]]


def test_expect_100_continue(serving, task):
    with serving.tunnel(task, LAB) as connection:
        connection.sendall(head("POST", "/sink", "Content-Length: 2", "Expect: 100-continue"))
        connection.settimeout(10)
        assert connection.recv(4096).startswith(b"HTTP/1.1 100")
        connection.sendall(b"ok")
        assert ws.read_answer(connection).json()["bytes"] == 2


def test_a_refusal_comes_instead_of_100_continue(serving, task):
    with serving.tunnel(task, LAB) as connection:
        connection.sendall(head("POST", "/vault/gold", "Content-Type: application/json", "Content-Length: 2097152", "Expect: 100-continue"))
        answer = ws.read_answer(connection)
        assert answer.status in (403, 413), answer
    assert serving.workspace.upstream.seen() == []


def websocket(serving, task, path="/ws", **more):
    context = ssl.create_default_context(cafile=str(serving.workspace.folder / "ca.pem"))
    return websockets.sync.client.connect(f"wss://{H1}{path}", ssl=context, proxy=f"http://task:{task['handle']}@127.0.0.1:{serving.port}", compression=None, **more)


def test_websocket_where_the_operation_declares_it(serving, task):
    with websocket(serving, task) as socket_:
        for text in ("hello", "x" * 60000):
            socket_.send(text)
            assert socket_.recv(timeout=10) == text
    (seen,) = serving.workspace.upstream.seen()
    assert seen.header("x-api-key") == serving.workspace.upstream.secrets["lab"]


def test_the_end_of_the_task_cuts_a_websocket(serving, task):
    with websocket(serving, task) as socket_:
        socket_.send("hello")
        assert socket_.recv(timeout=10) == "hello"
        serving.end(task)
        with pytest.raises((websockets.exceptions.ConnectionClosed, TimeoutError)) as end:
            socket_.recv(timeout=5)
        assert not isinstance(end.value, TimeoutError), "the socket was still open 5 s after the end of its task"


def test_the_end_of_the_task_cuts_an_open_stream(serving, task):
    ended = []
    with client(serving, task) as http, http.stream("GET", f"https://{LAB}/ticks?n=100&ms=100") as answer:
        with pytest.raises(httpx.HTTPError):
            for n, _ in enumerate(answer.iter_bytes()):
                if n == 3:
                    serving.end(task)
                    ended.append(time.monotonic())
    assert time.monotonic() - ended[0] < 2


def test_grpc_messages_pass_as_they_arrive(serving, task):
    """The real gRPC client, which reads `http_proxy` and speaks HTTP/2 only."""
    roots = (serving.workspace.folder / "ca.pem").read_bytes()
    options = [("grpc.http_proxy", f"http://task:{task['handle']}@127.0.0.1:{serving.port}")]
    with grpc.secure_channel(f"{H2}:443", grpc.ssl_channel_credentials(roots), options=options) as channel:
        assert channel.unary_unary("/lab.Echo/Unary")(b"hello", timeout=20) == b"hello"
        to_send = iter([b"one", b"two", b"three"])
        got = threading.Event()

        def messages():
            for message in to_send:
                yield message
                # the next goes out only when this one came back
                assert got.wait(10)
                got.clear()

        back = []
        for message in channel.stream_stream("/lab.Echo/Stream")(messages(), timeout=30):
            back.append(message)
            got.set()
        assert back == [b"one", b"two", b"three"]


def test_grpc_shows_a_refusal(serving, task):
    roots = (serving.workspace.folder / "ca.pem").read_bytes()
    options = [("grpc.http_proxy", f"http://task:{task['handle']}@127.0.0.1:{serving.port}")]
    with grpc.secure_channel(f"{H2}:443", grpc.ssl_channel_credentials(roots), options=options) as channel:
        with pytest.raises(grpc.RpcError) as error:
            channel.unary_unary("/lab.Nothing/Unary")(b"hello", timeout=20)
    assert error.value.code() == grpc.StatusCode.PERMISSION_DENIED and "unknown_operation" in error.value.details()
    assert serving.workspace.upstream.seen() == []


# size


def big(serving, task, size: int, http2: bool) -> None:
    """Down and up, while Remit stays under 64 MiB."""
    before = serving.rss()
    total = 0
    with client(serving, task, http2) as http:
        with http.stream("GET", f"https://{LAB}/zeros?bytes={size}") as answer:
            for part in answer.iter_raw(MIB):
                total += len(part)
        assert total == size
        chunk = bytes(MIB)
        answer = http.post(f"https://{LAB}/sink", content=(chunk for _ in range(size // MIB)), timeout=600)
        assert answer.json()["bytes"] == size
    assert serving.peak() < max(64 * MIB, before + 48 * MIB), f"{serving.peak() / MIB:.0f} MiB at most, {before / MIB:.0f} before"


@pytest.mark.parametrize("http2", [False, True], ids=["h1", "h2"])
def test_one_gibibyte(work, http2):
    with work.serve() as serving:
        big(serving, serving.task(), 1024 * MIB if not http2 else 256 * MIB, http2)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("http2", [False, True], ids=["h1", "h2"])
def test_ten_gibibytes(work, http2):
    with work.serve() as serving:
        big(serving, serving.task(), 10240 * MIB, http2)


def test_a_slow_reader_holds_the_sender_back(work):
    """Flow control: what the agent does not take is not read from upstream either."""
    with work.serve() as serving:
        task = serving.task()
        with serving.tunnel(task, LAB) as connection:
            connection.sendall(head("GET", f"/zeros?bytes={512 * MIB}"))
            connection.recv(1000)
            time.sleep(3)
            assert serving.rss() < 96 * MIB


# credentials in answers


@pytest.mark.parametrize("form", ["plain", "header", "base64", "split", "trailer", "cookie", "location"])
def test_the_credential_is_scrubbed_from_answers(serving, task, form):
    with client(serving, task) as http:
        answer = http.get(f"https://{LAB}/leak/{form}", headers={"te": "trailers"})
    secret = serving.workspace.upstream.secrets["lab"]
    whole = repr(answer.headers.raw) + answer.text
    assert serving.workspace.upstream.seen(), "the call went through"
    assert secret not in whole and base64.b64encode(secret.encode()).decode().rstrip("=") not in whole
    if form in ("plain", "split"):
        assert answer.text.startswith("the key is ") and answer.text.endswith(" and no other\n"), "the rest is untouched"


@pytest.mark.parametrize("form", ["gzip", "deflate"])
def test_a_compressed_answer_that_holds_the_credential_is_cut(serving, task, form):
    """Upstream was asked for no coding and compressed all the same: what cannot be scrubbed in passing ends there."""
    with contextlib.suppress(ConnectionError):
        answer = serving.call(task, "GET", LAB, f"/leak/{form}", {"accept-encoding": "gzip, deflate"})
        whole = answer.body if answer.header("content-encoding") == "" else zlib.decompress(answer.body, 47)
        assert serving.workspace.upstream.secrets["lab"].encode() not in whole
        return
    records = serving.workspace.audit
    decision = next(r["id"] for r in records() if r["kind"] == "decision" and r["path"] == f"/leak/{form}")
    outcome = ws.until(lambda: [r for r in records() if r["kind"] == "outcome" and r["id"] == decision], what="an outcome")[0]
    assert outcome["outcome"] == "incomplete", outcome


def test_what_upstream_echoes_holds_no_credential(serving, task):
    with client(serving, task) as http:
        answer = http.get(f"https://{LAB}/echo", headers={"x-mine": "stays"})
    assert ["x-mine", "stays"] in answer.json()["headers"]
    assert serving.workspace.upstream.secrets["lab"] not in answer.text


# connections


def test_upstream_connections_are_pooled(serving, task):
    with client(serving, task) as http:
        for _ in range(10):
            http.get(f"https://{H1}/echo").raise_for_status()
    assert len({s.connection for s in serving.workspace.upstream.seen(H1)}) == 1
    other = serving.task()
    with client(serving, other) as http:
        http.get(f"https://{H1}/echo").raise_for_status()


def test_an_idle_upstream_that_closed_is_redialled(work):
    with work.serve() as serving:
        task = serving.task()
        for _ in range(3):
            assert serving.call(task, "GET", H1, "/status/200").status == 200
            # the answer to this one closes the pooled connection
            serving.call(task, "GET", H1, "/close")


def test_many_calls_at_once(serving, task):
    def some(first):
        # a client of its own: the h2 library under httpx is not made for several threads
        with client(serving, task, True) as http:
            return [http.get(f"https://{LAB}/echo/n{n}").json()["target"] for n in range(first, first + 10)]

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        got = [target for each in pool.map(some, range(0, 300, 10)) for target in each]
    assert got == [f"/echo/n{n}" for n in range(300)]


def test_a_header_that_is_too_large_or_too_many(serving, task):
    for lines in (["X-Long: " + "a" * (70 << 10)], [f"X-{n}: a" for n in range(200)]):
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            answer = serving.raw(task, LAB, head("GET", "/echo", *lines))
            assert answer.status in (400, 431), answer
        assert serving.workspace.upstream.seen() == []


def test_a_slow_header_is_cut(work):
    """Slowloris: a byte now and then does not keep a connection."""
    with work.serve(timeouts={"header": "1s"}) as serving:
        for opened in (lambda: socket.create_connection(serving.address), lambda: serving.tunnel(serving.task(), LAB)):
            with opened() as connection:
                began = time.monotonic()
                with contextlib.suppress(OSError):
                    for byte in b"GET /echo HTTP/1.1\r\nHost: lab.example.test\r\nX-A: " + b"a" * 100:
                        connection.sendall(bytes([byte]))
                        connection.settimeout(0.2)
                        with contextlib.suppress(TimeoutError):
                            if connection.recv(1) == b"":
                                break
                assert time.monotonic() - began < 6


def test_an_idle_connection_is_closed(work):
    with work.serve(timeouts={"idle": "1s"}) as serving:
        with serving.tunnel(serving.task(), LAB) as connection:
            connection.sendall(head("GET", "/echo"))
            assert ws.read_answer(connection).status == 200
            connection.settimeout(8)
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                assert connection.recv(1) == b""


# drain and reload


def test_drain_lets_calls_end_and_takes_no_new_ones(work):
    with work.serve(timeouts={"drain": "10s"}) as serving:
        task = serving.task()
        with client(serving, task) as http, http.stream("GET", f"https://{LAB}/ticks?n=10&ms=200") as answer:
            parts = answer.iter_bytes()
            next(parts)
            serving.process.send_signal(signal.SIGTERM)
            ws.until(lambda: not accepts(serving), 3, "no new connection is taken")
            assert sum(p.count(b"data:") for p in parts) == 9, "the open stream goes on to its end"
        assert serving.process.wait(5) == 0


def test_drain_has_a_deadline(work):
    with work.serve(timeouts={"drain": "1s"}) as serving:
        task = serving.task()
        with client(serving, task) as http, http.stream("GET", f"https://{LAB}/ticks?n=1000&ms=100") as answer:
            parts = answer.iter_bytes()
            next(parts)
            began = time.monotonic()
            serving.process.send_signal(signal.SIGTERM)
            with pytest.raises(httpx.HTTPError):
                for _ in parts:
                    pass
        assert serving.process.wait(5) == 0 and time.monotonic() - began < 4
        outcomes = [r for r in work.audit() if r["kind"] == "outcome"]
        decisions = [r for r in work.audit() if r["kind"] == "decision"]
        assert {r["id"] for r in outcomes} == {r["id"] for r in decisions} and len(outcomes) == len(decisions)


def accepts(serving) -> bool:
    try:
        socket.create_connection(serving.address, timeout=1).close()
    except OSError:
        return False
    return True


def test_reload_under_load_drops_nothing(work):
    with work.serve() as serving:
        task = serving.task()
        stop, failures, done = threading.Event(), [], []

        def load(n: int) -> None:
            with client(serving, task, http2=n % 2 == 0) as http:
                while not stop.is_set():
                    try:
                        answer = http.get(f"https://{LAB}/echo/n{n}")
                        (done if answer.status_code == 200 else failures).append(answer.status_code)
                    except httpx.HTTPError as e:
                        failures.append(repr(e))

        threads = [threading.Thread(target=load, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        before = serving.metric("remit_reloads_total")
        for n in range(5):
            guard = ws.GUARDRAILS + f'\ndeny contains "round {n}" if input.intent.id == "lab.vault.read"\n'
            (work.folder / "policies" / "guardrails.rego").write_text(guard)
            serving.process.send_signal(signal.SIGHUP)
            time.sleep(0.6)
        # one that is wrong changes nothing
        (work.folder / "policies" / "guardrails.rego").write_text("package remit.guardrails\n\ndeny contains {\n")
        time.sleep(1)
        stop.set()
        for thread in threads:
            thread.join()
        assert failures == [] and len(done) > 50, (failures[:5], len(done))
        assert serving.metric("remit_reloads_total") > before
        assert serving.call(task, "GET", LAB, "/vault/gold").header("remit-reason") in ("guardrail", "not_granted")
        assert "round 4" in serving.call(task, "GET", LAB, "/vault/gold").body.decode(), "the last good state is in force"


# other ways through


def test_a_tunnelled_host_is_judged_by_name_and_passed_unopened(work):
    tls = {"ca": "ephemeral", "publish": "ca.pem", "upstream_roots": [str(work.upstream.ca.pem)], "tunnel": ["other.lab.example.test"]}
    catalog = work.write("tunnel.yaml", {"provider": "other", "hosts": ["other.lab.example.test"], "operations": [{"id": "other.host.connect", "match": "GET /", "effect": "read"}]})
    with work.serve(tls=tls, catalog=["builtin", str(ws.HERE / "catalog" / "*.yaml"), str(catalog)]) as serving:
        with pytest.raises(ws.Refused) as refusal:
            serving.tunnel(serving.task(), "other.lab.example.test")
        assert refusal.value.answer.status == 403 and refusal.value.answer.header("remit-reason"), refusal.value.answer
        assert work.upstream.seen() == []


@pytest.fixture
def corporate(upstream):
    running = relay.Relay(upstream.both, "remit", "letmein")
    yield running
    running.stop()


def test_upstream_proxy(work, corporate):
    upstream = {"allow_addresses": ["127.0.0.0/8"], "proxy": {"url": f"http://127.0.0.1:{corporate.port}", "user": "remit", "password": {"env": "CORPORATE_PASSWORD"}}}
    with work.serve(upstream=upstream, env={"CORPORATE_PASSWORD": "letmein"}) as serving:
        answer = serving.call(serving.task(), "GET", LAB, "/echo")
        assert answer.status == 200, answer
        assert (f"{LAB}:443", True) in corporate.asked
        assert not any("proxy-authorization" in k.lower() for k, _ in answer.json()["headers"])


def test_upstream_proxy_from_the_environment(work, corporate):
    upstream = {"allow_addresses": ["127.0.0.0/8"], "proxy": "env"}
    with work.serve(upstream=upstream, env={"HTTPS_PROXY": f"http://remit:letmein@127.0.0.1:{corporate.port}"}) as serving:
        assert serving.call(serving.task(), "GET", LAB, "/echo").status == 200
        assert (f"{LAB}:443", True) in corporate.asked


def test_an_answer_that_can_be_read_two_ways_ends_its_connection(serving, task):
    """Content-Length beside chunked from upstream: one framing reaches the agent, and the connection is not used again."""
    answer = serving.call(task, "GET", H1, "/both-lengths")
    assert answer.status == 502 or (answer.body == b"hello" and not ("content-length" in answer.headers and "transfer-encoding" in answer.headers)), answer
    serving.call(task, "GET", H1, "/echo")
    connections = [s.connection for s in serving.workspace.upstream.seen(H1)]
    assert len(set(connections)) == 2, "the connection of such an answer is never used again"
