"""The commands themselves, run as a user runs them."""

import json
import os
import re
import signal
import subprocess
import time

import agent
import pytest
import refusals
import workspace as ws

SHOW = ["/bin/sh", "-c"]


# run


def test_run_exits_with_the_codes_of_its_command(work):
    assert work.run(*SHOW, "exit 7").code == 7
    assert work.run("true").code == 0
    assert work.run(*SHOW, "kill -TERM $$").code == 128 + signal.SIGTERM


def test_run_says_what_it_could_not_do(work):
    run = work.remit("run", "--config", "nowhere.yaml", "--", "true")
    assert run.returncode in (1, 3) and "nowhere.yaml" in run.stderr
    run = work.remit("run", "--config", work.file, "--agent", "tster", "--", "true")
    assert run.returncode != 0 and "tester" in run.stderr, "the nearest agent is suggested"
    run = work.remit("run", "--config", work.file, "--agent", "tester", "--workflow", "nothing", "--", "/no/such/program")
    assert run.returncode == 3 and "/no/such/program" in run.stderr, (run.returncode, run.stderr)


def test_run_gives_placeholders_and_takes_secrets_away(work):
    run = work.run("true", env={"MY_COPY": work.upstream.secrets["lab"], "AWS_SECRET_ACCESS_KEY": "x" * 40, "VAULT_TOKEN": "y" * 30, "HARMLESS": "stays"})
    for name in ("GITHUB_TOKEN", "OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        assert run.env[name] and run.env[name] not in work.upstream.secrets.values()
    assert "MY_COPY" not in run.env and "ACME_LAB_KEY" not in run.env, "variables that hold a configured secret are gone"
    assert run.env.get("AWS_SECRET_ACCESS_KEY") != "x" * 40 and "VAULT_TOKEN" not in run.env, "and those on the list of credential names"
    assert run.env["HARMLESS"] == "stays"
    other = work.run("true")
    assert other.env["GITHUB_TOKEN"] != run.env["GITHUB_TOKEN"], "placeholders are random per run"


def test_run_keeps_a_variable_that_is_named(work):
    run = work.run("true", env={"VAULT_TOKEN": "of-no-use-elsewhere"}, options=("--env", "VAULT_TOKEN"))
    assert run.env["VAULT_TOKEN"] == "of-no-use-elsewhere"


def test_runs_ca_files_hold_the_systems_roots_and_ours(work):
    run = work.run(*SHOW, 'grep -c BEGIN "$SSL_CERT_FILE"')
    assert int(run.out.strip()) > 50
    assert not os.path.exists(run.env["SSL_CERT_FILE"]), "and are removed when it ends"


def test_run_leaves_its_commands_output_alone(work):
    run = work.run(*SHOW, "echo out; echo err >&2")
    assert run.out == "out\n"
    assert "advisory: not isolated" in run.err.splitlines()[0] and "err" in run.err.splitlines()


def test_run_ends_with_what_was_called_and_equal_lines_folded(work):
    url = "https://lab.example.test"
    run = work.run(*SHOW, f"for n in 1 2 3; do curl -sS {url}/echo; curl -sS {url}/vault/gold; done >/dev/null")
    summary = run.err.split("remit: 6 calls by tester in everything")[1]
    assert re.search(r"3 +lab\.echo\.read +allow", summary) and re.search(r"3 +lab\.vault\.read +deny not_granted", summary), run.err
    assert re.search(r"audit .* head \d+:[0-9a-f]{64}", summary), run.err


def test_what_run_prints_obeys_no_escape_from_the_network(work):
    run = work.run("curl", "-sS", "-g", "https://lab.example.test/vault/a%1b%5b31m")
    assert "\x1b" not in run.err
    run = work.run("curl", "-sS", "https://lab.example.test/vault/a%E2%80%AEb")
    assert "\u202e" not in run.shown


def test_the_handle_of_a_run_is_of_no_use_after_it(work):
    with work.serve() as serving:
        run = work.run(*SHOW, 'echo "$HTTPS_PROXY"')
        handle = re.search(r"http://task:([^@]+)@", run.out)[1]
        with pytest.raises(ws.Refused):
            serving.call({"handle": handle}, "GET", "lab.example.test", "/echo")


def test_a_killed_run_leaves_no_call_without_outcome(work):
    """The next writer gives the calls of a dead process the outcome `unknown`."""
    child = subprocess.Popen(
        [str(ws.BINARY), "run", "--agent", "tester", "--workflow", "everything", "--config", str(work.file), "--", "curl", "-sS", "https://lab.example.test/hang?s=30"],
        env=work.environment(), cwd=work.home, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )
    ws.until(lambda: work.upstream.seen(), 10, "the call got upstream")
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    assert work.run("true").code == 0
    records = work.audit()
    decision = next(r for r in records if r["kind"] == "decision")
    outcomes = [r for r in records if r["kind"] == "outcome" and r["id"] == decision["id"]]
    assert [o["outcome"] for o in outcomes] == ["unknown"], outcomes
    assert work.remit("audit", "verify", "audit").returncode in (0, 1)


# run --observe


def test_observe_needs_no_config_refuses_nothing_and_records_what_would_have_been(work):
    code = 'curl -sS -H "x-api-key: $KEPT" "$0/echo"; curl -sS -H "x-api-key: $KEPT" "$0/status/200"'
    env = {"KEPT": work.upstream.secrets["lab"], "HOME": str(work.home)}
    config = work.configure(registry={"agents": [{"id": "tester", "owner": "a@b.c", "workflows": ["nothing"]}], "workflows": ws.REGISTRY["workflows"][1:2]})
    line = [str(ws.BINARY), "run", "--observe", "--config", str(config), "--", *SHOW, code, "https://lab.example.test"]
    done = subprocess.run(line, env=work.environment(**env), cwd=work.home, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "as asked" in done.stdout, done
    assert len(work.upstream.seen()) == 2 and all(s.header("x-api-key") == env["KEPT"] for s in work.upstream.seen())
    decisions = [r for r in work.audit() if r["kind"] == "decision"]
    assert len(decisions) == 2 and all(d["mode"] == "observe" and d["decision"] == "deny" and d["code"] == "not_granted" for d in decisions), decisions
    assert "would deny" in done.stderr


def test_observe_still_verifies_tls(work):
    """Without a config upstream's CA is not known here, and the call must fail."""
    run = work.run("curl", "-sS", "https://lab.example.test/echo", options=("--observe", "--audit", str(work.audit_folder)))
    (work.folder / "child-1.env").unlink()  # what is only observed keeps its own credentials
    assert "upstream_unreachable" in run.shown or "address_forbidden" in run.shown, run.shown
    assert work.upstream.seen() == []


# audit


def test_audit_verifies_and_names_the_record_that_was_changed(work):
    work.run(*SHOW, "for n in 1 2 3; do curl -sS https://lab.example.test/echo; done")
    done = work.remit("audit", "verify", "audit")
    assert done.returncode == 0 and "closed" in done.stdout, (done.stdout, done.stderr)
    (log,) = work.audit_folder.rglob("*.jsonl")
    lines = log.read_bytes().splitlines(keepends=True)
    at = next(i for i, line in enumerate(lines) if b'"kind":"decision"' in line)
    seq = json.loads(lines[at])["seq"]
    for spoilt in (
        lines[:at] + [lines[at].replace(b'"decision":"allow"', b'"decision":"deny!"', 1)] + lines[at + 1 :],
        lines[:at] + lines[at + 1 :],
        lines[:at] + [lines[at + 1], lines[at]] + lines[at + 2 :],
    ):
        log.write_bytes(b"".join(spoilt))
        done = work.remit("audit", "verify", "audit")
        assert done.returncode == 1 and re.search(rf"\b({seq}|{seq + 1})\b", done.stdout + done.stderr), (seq, done.stdout, done.stderr)
    log.write_bytes(b"".join(lines))
    assert work.remit("audit", "verify", "audit").returncode == 0


def test_a_cut_log_is_found_by_the_head_that_run_printed(work):
    run = work.run(*SHOW, "curl -sS https://lab.example.test/echo")
    head = re.search(r"head (\d+:[0-9a-f]{64})", run.err)[1]
    assert work.remit("audit", "verify", "audit", "--expect", head).returncode == 0
    (log,) = work.audit_folder.rglob("*.jsonl")
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:-2]))
    assert work.remit("audit", "verify", "audit", "--expect", head).returncode == 1


# explain, intents


def test_explain_says_what_would_be_decided_and_sends_nothing(work):
    ask = lambda *call: work.remit("explain", "--config", work.file, "--agent", "tester", "--workflow", "everything", "--output", "json", *call)  # noqa: E731
    done = ask("GET", "https://api.github.com/repos/acme/web/issues")
    assert done.returncode == 0 and "github.issues.list-for-repo" in done.stdout, (done.stdout, done.stderr)
    done = ask("DELETE", "https://api.github.com/repos/acme/web")
    assert done.returncode == 1 and "not_granted" in done.stdout, (done.stdout, done.stderr)
    assert work.upstream.seen() == []


def test_a_catalog_may_stand_in_the_config_and_a_host_of_none_may_be_granted(tmp_path, work):
    config = tmp_path / "remit.yaml"
    config.write_text("""version: 1
registry: [registry.yaml]
catalog:
  - builtin
  - provider: acme
    hosts: [api.acme.example]
    operations:
      - {id: acme.orders.list, match: "GET /orders/{shop}", effect: read}
""")
    (tmp_path / "registry.yaml").write_text("""agents:
  - {id: bot, owner: o@acme.example, status: active, expires: 2099-01-01T00:00:00Z, workflows: [w]}
workflows:
  - id: w
    purpose: p
    max_lifetime: 1h
    grants:
      - {intents: [acme.orders.list], where: {shop: north}}
      - {intents: [unknown], where: {host: status.acme.example}}
""")
    ask = lambda url: json.loads(work.remit("explain", "--config", config, "--agent", "bot", "--workflow", "w", "--output", "json", "GET", url).stdout)  # noqa: E731
    assert ask("https://api.acme.example/orders/north")["decision"] == "allow"
    assert ask("https://api.acme.example/orders/south")["decision"] == "deny"
    assert ask("https://status.acme.example/now")["decision"] == "allow"
    assert ask("https://other.acme.example/now")["decision"] == "deny"
    config.write_text(config.read_text().replace("effect: read", "efect: read"))
    said = work.remit("check", "--config", config)
    assert said.returncode == 1 and "remit.yaml:8" in said.stderr + said.stdout, (said.stdout, said.stderr)


def test_explain_tells_of_a_decision_that_was_made(work):
    run = work.run("curl", "-sS", "https://lab.example.test/vault/gold")
    decision = json.loads(run.out)["decision"]
    done = work.remit("explain", "--config", work.file, decision)
    assert "lab.vault.read" in done.stdout and "not_granted" in done.stdout, (done.stdout, done.stderr)


def test_intents_match_one_and_a_batch(work):
    done = work.remit("intents", "match", "POST", "https://api.github.com/repos/acme/web/issues")
    assert done.returncode == 0 and "github.issues.create" in done.stdout
    calls = [{"method": "GET", "url": "https://api.github.com/repos/acme/web"}, {"method": "POST", "url": "https://api.openai.com/v1/chat/completions", "headers": {"content-type": "application/json"}, "body": '{"model": "m"}'}]
    file = work.write("calls.jsonl", "".join(json.dumps(c) + "\n" for c in calls))
    done = work.remit("intents", "match", "--input", file, "--output", "json")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [r["intents"][0]["id"] for r in rows] == ["github.repos.get", "openai.chat.create-chat-completion"], done.stdout
    assert [r["provider"] for r in rows] == ["github", "openai"]
    assert rows[0]["intents"][0]["effect"] == "read" and rows[0]["intents"][0]["params"]["owner"] == "acme"


# demo, check, init


def test_the_demo_turns_out_as_told(work):
    done = work.remit("demo", timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    for told in ("not_granted", "unknown_host", "task_ended"):
        assert told in done.stdout, done.stdout


def test_a_config_of_init_is_right(work, tmp_path):
    done = work.remit("init", tmp_path / "new")
    assert done.returncode == 0, done.stderr
    (config,) = (tmp_path / "new").rglob("remit.yaml")
    done = work.remit("check", "--config", config)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"listn": {"forward": "127.0.0.1:1"}}, ["remit.yaml:", "listn", "did you mean `listen`"]),
        ({"listen": {"forwrd": "127.0.0.1:1"}}, ["remit.yaml:", "listen.forwrd", "did you mean `forward`"]),
        ({"timeouts": {"header": "10"}}, ["remit.yaml:", "timeouts.header"]),
        ({"upstream": {"allow_addresses": ["127.0.0.0/99"]}}, ["remit.yaml:", "upstream.allow_addresses"]),
        ({"version": 2}, ["remit.yaml:", "version"]),
    ],
    ids=["top", "nested", "duration", "range", "version"],
)
def test_a_mistake_in_the_config_names_file_line_key_and_the_nearest(work, change, says):
    file = work.configure(**change)
    for command in (("check",), ("run", "--agent", "tester", "--workflow", "nothing")):
        done = work.remit(command[0], *command[1:], "--config", file, *(["--", "true"] if command[0] == "run" else []))
        text = done.stdout + done.stderr
        assert done.returncode == 1 and all(s in text for s in says), text
        assert re.search(r"remit\.yaml:\d+: ", text), text


def test_mistakes_in_other_files_are_named_too(work):
    registry = {**ws.REGISTRY, "agents": [{**ws.REGISTRY["agents"][0], "workflows": ["everythng"]}]}
    done = work.remit("check", "--config", work.configure(registry=registry))
    assert done.returncode == 1 and re.search(r"agents\.yaml:\d+: .*everythng.*did you mean `everything`", done.stdout + done.stderr), done
    grants = [{"intents": ["lab.echo.reed"]}]
    registry = {**ws.REGISTRY, "workflows": [{**ws.REGISTRY["workflows"][0], "grants": grants}]}
    registry["agents"] = [{**ws.REGISTRY["agents"][0], "workflows": ["everything"]}]
    done = work.remit("check", "--config", work.configure(registry=registry))
    assert done.returncode == 1 and "lab.echo.reed" in done.stdout + done.stderr and "lab.echo.read" in done.stdout + done.stderr, done


# serve: metrics, health


def test_metrics_count_what_was_decided_and_carry_no_text_of_requests(work):
    with work.serve() as serving:
        task = serving.task()
        for _ in range(3):
            assert serving.call(task, "GET", "lab.example.test", "/echo").status == 200
        serving.call(task, "GET", "lab.example.test", "/vault/unheard-of-name")
        serving.call(task, "GET", "evil.example.test", "/")
        assert serving.metric("remit_calls_total", provider="lab", decision="allow") == 3
        assert serving.metric("remit_calls_total", reason="not_granted") == 1
        assert serving.metric("remit_calls_total", reason="unknown_host") == 1
        assert serving.metric("remit_decision_cache_hits") >= 1
        assert serving.metric("remit_tasks_active") == 1
        text = serving.admin_get("/metrics").body.decode()
        assert "unheard-of-name" not in text and "evil.example.test" not in text and task["id"] not in text
        assert serving.admin_get("/healthz").status == 200 and serving.admin_get("/readyz").status == 200


def test_not_ready_in_drain(work):
    with work.serve(timeouts={"drain": "5s"}) as serving:
        task = serving.task()
        with serving.tunnel(task, "lab.example.test") as connection:
            connection.sendall(b"GET /ticks?n=100&ms=100 HTTP/1.1\r\nHost: lab.example.test\r\n\r\n")
            connection.recv(100)
            serving.process.send_signal(signal.SIGTERM)
            ws.until(lambda: not serving.ready(), 3, "not ready in drain")
            assert serving.process.poll() is None, "while the call goes on"


def test_start_to_ready_is_quick_and_small(work):
    with work.serve() as serving:
        serving.stop()
        began = time.monotonic()
        serving.start()
        took = time.monotonic() - began
        print(f"ready in {took * 1000:.0f} ms, {serving.rss() / (1 << 20):.0f} MiB resident")
        # told in full by the benchmarks; this is the order of magnitude, also for a debug build under load
        assert took < 5 and serving.rss() < 96 << 20


def test_the_control_socket_takes_no_stranger(work):
    with work.serve():
        socket_ = work.folder / "remit.sock"
        assert oct(socket_.stat().st_mode & 0o777) in ("0o600", "0o660", "0o700"), oct(socket_.stat().st_mode)


def test_a_refusal_through_run_leaves_its_pair(work):
    run = work.run("curl", "-sS", "https://lab.example.test/vault/gold")
    refusals.pair(work, json.loads(run.out)["decision"], "not_granted", 403)
    assert "not_granted" in agent.without_summary(run.shown)
