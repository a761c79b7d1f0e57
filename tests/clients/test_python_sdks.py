"""Vendors' SDKs for Python: PyGithub, openai, anthropic, slack_sdk, boto3. Streaming where they stream."""

import agent
import pytest

PYGITHUB = """
import os, sys, github
g = github.Github(auth=github.Auth.Token(os.environ["GITHUB_TOKEN"]), **({"retry": None} if "TEST_NO_RETRIES" in os.environ else {}))
print(g.get_repo(sys.argv[1]).full_name)
"""
OPENAI = """
import openai, os
c = openai.OpenAI(max_retries=0 if "TEST_NO_RETRIES" in os.environ else 2)
print(c.chat.completions.create(model="gpt-test", messages=[{"role": "user", "content": "hi"}]).choices[0].message.content)
"""
OPENAI_STREAM = """
import openai
c = openai.OpenAI()
for chunk in c.chat.completions.create(model="gpt-test", messages=[{"role": "user", "content": "hi"}], stream=True):
    print(chunk.choices[0].delta.content or "", end="")
"""
ANTHROPIC = """
import anthropic, os
c = anthropic.Anthropic(max_retries=0 if "TEST_NO_RETRIES" in os.environ else 2)
print(c.messages.create(model="claude-test", max_tokens=9, messages=[{"role": "user", "content": "hi"}]).content[0].text)
"""
ANTHROPIC_STREAM = """
import anthropic
c = anthropic.Anthropic()
with c.messages.stream(model="claude-test", max_tokens=9, messages=[{"role": "user", "content": "hi"}]) as s:
    for text in s.text_stream:
        print(text, end="")
"""
SLACK = """
import os, sys, slack_sdk
c = slack_sdk.WebClient(token=os.environ.get("SLACK_BOT_TOKEN", "xoxb-none"))
print(c.auth_test()["team"] if sys.argv[1] == "auth" else c.chat_postMessage(channel="C1", text="hello")["ts"])
"""
BOTO = """
import sys, boto3
from botocore import UNSIGNED
from botocore.config import Config
s3 = boto3.client("s3", region_name="eu-west-1", config=Config(signature_version=UNSIGNED, s3={"addressing_style": "path"}))
print(s3.get_object(Bucket="reports", Key="q1.txt")["Body"].read().decode() if sys.argv[1] == "get" else s3.list_buckets())
"""
HELLO = "Hello from upstream"

CLIENTS = [
    agent.Client("PyGithub", "api.github.com", agent.python(PYGITHUB, "acme/web"), agent.python(PYGITHUB, "acme/secret"), "acme/web", "github"),
    agent.Client("openai (Python)", "api.openai.com", agent.python(OPENAI), agent.python(OPENAI), HELLO, "openai", refused_workflow="nothing"),
    agent.Client("anthropic (Python)", "api.anthropic.com", agent.python(ANTHROPIC), agent.python(ANTHROPIC), HELLO, "anthropic", refused_workflow="nothing"),
    agent.Client("slack_sdk", "slack.com", agent.python(SLACK, "auth"), agent.python(SLACK, "post"), "acme", "slack"),
    agent.Client("boto3", "s3.eu-west-1.amazonaws.com", agent.python(BOTO, "get"), agent.python(BOTO, "list"), "quarterly figures", "aws"),
]


@pytest.mark.parametrize("client", CLIENTS, ids=lambda c: c.name)
class TestClient:
    def test_an_allowed_call_carries_the_credential(self, client, work):
        client.check_allowed(work)

    def test_a_refusal_is_shown_and_upstream_sees_nothing(self, client, work, clients):
        run = client.check_refused(work, clients)
        assert run.code != 0
        assert work.upstream.seen() == []

    def test_variables(self, client, work, clients):
        client.check_variables(work, clients)


@pytest.mark.parametrize(("name", "code"), [("openai", OPENAI_STREAM), ("anthropic", ANTHROPIC_STREAM)])
def test_streams(work, name, code):
    run = work.run(*agent.python(code))
    assert run.code == 0 and run.out.startswith(HELLO), run.shown
    work.upstream.clear()
    run = work.run(*agent.python(code), workflow="nothing")
    assert run.code != 0 and "not_granted" in agent.without_summary(run.shown), run.shown
    assert work.upstream.seen() == [], "a refused stream is not retried into upstream either"


def test_openai_responses_and_embeddings(work):
    code = """
import openai
c = openai.OpenAI()
print(c.responses.create(model="gpt-test", input="hi").output_text)
print("".join(e.delta for e in c.responses.create(model="gpt-test", input="hi", stream=True) if e.type == "response.output_text.delta"))
print(c.embeddings.create(model="embed-test", input="hi", encoding_format="float").data[0].embedding)
"""
    run = work.run(*agent.python(code))
    assert run.out.splitlines()[:3] == [HELLO, HELLO, "[0.0, 0.5, 1.0]"], run.shown


@pytest.mark.parametrize("module", ["openai", "anthropic"])
def test_a_refusal_is_not_retried(work, module):
    """The SDKs retry 429 and 5xx; a refusal says `x-should-retry: false`, and one attempt is all that is recorded."""
    code = {"openai": OPENAI, "anthropic": ANTHROPIC}[module]
    run = work.run(*agent.python(code), workflow="nothing")
    assert run.code != 0
    decisions = [r for r in work.audit() if r.get("decision") == "deny"]
    assert len(decisions) == 1, decisions


def test_pygithub_writes_where_it_may_and_not_elsewhere(work):
    code = """
import os, sys, github
g = github.Github(auth=github.Auth.Token(os.environ["GITHUB_TOKEN"]))
r = g.get_repo(sys.argv[1])
i = r.create_issue(title="From PyGithub")
print(i.title, i.create_comment("seen").body, [j.title for j in r.get_issues()], g.get_user().login if len(sys.argv) > 2 else "")
"""
    run = work.run(*agent.python(code, "acme/web"))
    assert "From PyGithub seen ['Issue 1', 'Issue 2']" in run.out, run.shown
    work.upstream.clear()
    run = work.run(*agent.python(code, "acme/docs"))
    assert run.code != 0 and "not_granted" in agent.without_summary(run.shown), run.shown
    assert all(s.method == "GET" for s in work.upstream.seen())


def test_boto3_signs_with_what_it_has_and_its_signature_goes_nowhere(work):
    code = """
import boto3
print(boto3.client("dynamodb", region_name="eu-west-1", aws_access_key_id="AKIAPLACEHOLDER00000", aws_secret_access_key="none").list_tables()["TableNames"])
"""
    run = work.run(*agent.python(code))
    assert "orders" in run.out, run.shown
    assert not any(s.holds("AKIAPLACEHOLDER00000") for s in work.upstream.seen())
    work.upstream.clear()
    run = work.run(*agent.python(code), workflow="nothing")
    assert run.code != 0 and "not_granted" in agent.without_summary(run.shown), run.shown
    assert work.upstream.seen() == []
