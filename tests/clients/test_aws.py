"""Kind `aws`: boto3 with placeholder keys, through Remit, to moto with its signatures enforced."""

from __future__ import annotations

import json
import time

import agent
import aws_server
import pytest
from aws_lab import BOTO, EVERY_WAY, KEYS_KEPT, OBJECT, REGION, REGISTRY, ROLE, S3, STS, signed_by


def test_boto3_with_placeholder_keys_keeps_objects_in_every_way(work_aws, aws):
    work_aws.configure()
    run = work_aws.run(*agent.python(EVERY_WAY), timeout=120)
    assert run.code == 0, run.shown
    assert "same True" in run.out and f"keys {KEYS_KEPT}" in run.out and "prefixed ['a b/ü+(1)=~&$@:,é.txt']" in run.out, run.shown
    assert "range b'ma'" in run.out and "meta {'owner': 'acme  web'}" in run.out, run.shown
    # all of it came signed with the keys that Remit has, and with nothing of the agent's
    placeholder = run.env["AWS_ACCESS_KEY_ID"]
    assert {signed_by(s) for s in aws.seen} == {aws.id} and placeholder != aws.id
    assert not any(placeholder in str(s["headers"]) for s in aws.seen)
    ways = {s["headers"].get("x-amz-content-sha256", "")[:30] for s in aws.seen if s["method"] == "PUT"}
    assert any(w.startswith("STREAMING-UNSIGNED") for w in ways), f"a file streams with its checksum after it: {ways}"
    assert any("uploadId=" in s["target"] for s in aws.seen), "and one went in parts"


def test_a_bucket_in_the_host_is_signed_for_too(work_aws, aws):
    work_aws.configure()
    code = BOTO + 's3.put_object(Bucket="acme", Key="x/y", Body=b"1"); print(s3.get_object(Bucket="acme", Key="x/y")["Body"].read())'
    run = work_aws.run(*agent.python(code), env={"STYLE": "virtual"})
    assert "b'1'" in run.out, run.shown
    assert all(s["headers"]["host"] == f"acme.s3.{REGION}.amazonaws.com" for s in aws.seen)


def test_other_services_are_signed_by_their_hosts(work_aws, aws):
    work_aws.configure()
    code = f"""
import boto3
d = boto3.client("dynamodb", region_name={REGION!r})
print(d.list_tables()["TableNames"])
"""
    run = work_aws.run(*agent.python(code))
    assert "[]" in run.out, run.shown
    assert f"/{REGION}/dynamodb/aws4_request" in aws.seen[0]["headers"]["authorization"]


def test_each_task_assumes_the_role_for_what_its_calls_need(work_aws, aws):
    work_aws.configure(STS)
    code = BOTO + """
s3.put_object(Bucket="acme", Key="mine.txt", Body=b"mine")
print(s3.get_object(Bucket="acme", Key="mine.txt")["Body"].read(), s3.get_object(Bucket="acme", Key="mine.txt")["Body"].read())
print([o["Key"] for o in s3.list_objects_v2(Bucket="acme")["Contents"]])
"""
    run = work_aws.run(*agent.python(code), options=("--for", "alice@acme.example"))
    assert "b'mine' b'mine'" in run.out and "mine.txt" in run.out.splitlines()[1], run.shown
    asked = [(s["RoleArn"], s["SourceIdentity"], json.loads(s["Policy"])["Statement"]) for s in aws.sessions]
    assert {(r, i) for r, i, _ in asked} == {(ROLE, "alice@acme.example")}
    resources = [[(s["Action"], s["Resource"]) for s in statements] for _, _, statements in asked]
    assert resources == [[(OBJECT["action"], "arn:aws:s3:::acme/mine.txt")], [("s3:ListBucket", "arn:aws:s3:::acme")]], "one for each scope"
    task = next(r for r in work_aws.audit() if r["kind"] == "task")
    assert {s["RoleSessionName"] for s in aws.sessions} == {task["task"] if "task" in task else task["id"]}
    objects = [s for s in aws.seen if s["headers"]["host"] == S3]
    assert objects and all(signed_by(s) != aws.id and "x-amz-security-token" in s["headers"] for s in objects)


def test_a_session_policy_that_forbids_is_honoured(work_aws, aws):
    """The grants and the role allow every bucket; what is asked for the task's sessions does not."""
    scope = [{"intents": ["aws.s3.*"], "allow": [{"action": "s3:GetObject", "resource": "arn:aws:s3:::acme/*"}]}]
    work_aws.configure({"role": ROLE, "scope": scope})
    code = BOTO + """
print(s3.get_object(Bucket="acme", Key="hello.txt")["Body"].read())
for call in (lambda: s3.get_object(Bucket="private", Key="hello.txt"), lambda: s3.put_object(Bucket="acme", Key="new", Body=b"")):
    try:
        print("went through", call())
    except s3.exceptions.ClientError as e:
        print(e.response["Error"]["Code"])
"""
    run = work_aws.run(*agent.python(code))
    assert run.out.splitlines()[:3] == ["b'hello from acme'", "AccessDenied", "AccessDenied"], run.shown
    assert len(aws.sessions) == 1, "one scope, one session"


def test_a_session_allows_nothing_past_the_end_of_its_task(work_aws, aws):
    """STS gives no session under 15 minutes; its policy ends with the task."""
    work_aws.configure({**STS, "source_identity": "none"})
    before = aws.now()
    run = work_aws.run(*agent.python(BOTO + 's3.get_object(Bucket="acme", Key="hello.txt")'), options=("--for", "alice@acme.example"))
    assert run.code == 0, run.shown
    (session,) = aws.sessions
    # the task has 30 minutes, and the session 15: nothing is to be said
    assert session["DurationSeconds"] == "900" and "Condition" not in session["Policy"] and "SourceIdentity" not in session
    registry = {**REGISTRY, "workflows": [{**REGISTRY["workflows"][0], "max_lifetime": "2m", "credential": "s3"}]}
    work_aws.configure({**STS, "source_identity": "none"}, registry=registry)
    aws.clear()
    run = work_aws.run(*agent.python(BOTO + 's3.get_object(Bucket="acme", Key="hello.txt")'))
    assert run.code == 0, run.shown
    (session,) = aws.sessions
    until = json.loads(session["Policy"])["Statement"][0]["Condition"]["DateLessThan"]["aws:CurrentTime"]
    ends = time.mktime(time.strptime(until, "%Y-%m-%dT%H:%M:%SZ")) - time.timezone - before.timestamp()
    assert 100 < ends < 180, ends
    used = next(s for s in aws.seen if s["headers"]["host"] == S3)
    aws.ahead = 130
    with pytest.raises(AssertionError, match="AccessDenied"):
        replay(aws, session, used)


def replay(aws, session, used):
    """Whoever took the session's keys tries them after the task."""
    from moto.sts.models import sts_backends

    import boto3

    role = next(r for r in sts_backends[aws_server.ACCOUNT]["aws"].assumed_roles if r.access_key_id == signed_by(used))
    s3 = boto3.client("s3", region_name=REGION, endpoint_url=f"https://localhost:{aws.port}", verify=str(aws.ca), aws_access_key_id=role.access_key_id, aws_secret_access_key=role.secret_access_key, aws_session_token=role.session_token)
    try:
        s3.get_object(Bucket="acme", Key="hello.txt")
    except s3.exceptions.ClientError as e:
        raise AssertionError(e.response["Error"]["Code"]) from e


def test_an_intent_that_no_scope_is_for_is_refused_and_sts_not_asked(work_aws, aws):
    work_aws.configure(STS)
    run = work_aws.run(*agent.python(BOTO + 's3.delete_object(Bucket="acme", Key="hello.txt")'))
    assert run.code != 0 and "credential_unavailable" in run.shown and "no `scope` of it is for aws.s3.delete-object" in run.shown, run.shown
    assert aws.seen == [] and aws.object("hello.txt") == b"hello from acme"


def test_a_star_in_a_key_stands_for_itself(work_aws, aws):
    work_aws.configure(STS)
    run = work_aws.run(*agent.python(BOTO + 's3.get_object(Bucket="acme", Key="*")'))
    assert run.code != 0, "moto knows no `${*}`, and so allows it nothing"
    (session,) = aws.sessions
    assert json.loads(session["Policy"])["Statement"][0]["Resource"] == "arn:aws:s3:::acme/${*}"


# what an agent may send of its own


def test_the_agents_own_keys_and_tokens_get_nowhere(work_aws, aws):
    work_aws.configure()
    code = BOTO + """
theirs = dict(aws_access_key_id="AKIAOTHERTENANT00000", aws_secret_access_key="o" * 40, aws_session_token="tenant-session-token")
other = boto3.client("s3", region_name="eu-north-1", endpoint_url="https://s3.eu-central-1.amazonaws.com", **theirs)
other.meta.events.register("before-sign.s3", lambda request, **_: request.headers.add_header("Cookie", "session=mine"))
print(other.get_object(Bucket="acme", Key="hello.txt")["Body"].read())
"""
    run = work_aws.run(*agent.python(code))
    assert "hello from acme" in run.out, run.shown
    sent = str(aws.seen)
    assert "OTHERTENANT" not in sent and "tenant-session-token" not in sent and "session=mine" not in sent
    assert f"{aws.id}/" in sent and f"/{REGION}/s3/" in sent, "signed for where it goes, not for where the agent said"


@pytest.mark.parametrize("version", ["s3v4", "s3"])
def test_a_presigned_url_is_refused(work_aws, aws, version):
    work_aws.configure()
    code = BOTO + f"""
import urllib.request
old = boto3.client("s3", region_name={REGION!r}, config=Config(signature_version={version!r}, s3={{"addressing_style": "path"}}))
try:
    print(urllib.request.urlopen(old.generate_presigned_url("get_object", Params={{"Bucket": "acme", "Key": "hello.txt"}})).read())
except urllib.error.HTTPError as e:
    print(e.code, e.headers["remit-reason"])
"""
    run = work_aws.run(*agent.python(code))
    assert "403 foreign_credential" in run.out, run.shown
    assert aws.seen == []
