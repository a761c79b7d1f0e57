"""What the tests of kind `aws` share: a moto of the session, and a workspace whose credential is its keys."""

from __future__ import annotations

import aws_server
import pytest
import workspace as ws

REGION = aws_server.REGION
S3 = f"s3.{REGION}.amazonaws.com"
RCLONE = "s3.eu-north-1.amazonaws.com"
ROLE = f"arn:aws:iam::{aws_server.ACCOUNT}:role/agents"
KEYS = {"access_key_id": {"env": "ACME_AWS_ID"}, "secret_access_key": {"env": "ACME_AWS_SECRET_KEY"}}
OBJECT = {"action": ["s3:GetObject", "s3:PutObject"], "resource": "arn:aws:s3:::{Bucket}/{Key}"}
SCOPE = [
    {"intents": ["aws.s3.list-buckets"], "allow": [{"action": "s3:ListAllMyBuckets", "resource": "*"}]},
    {"intents": ["aws.s3.list-objects*"], "allow": [{"action": "s3:ListBucket", "resource": "arn:aws:s3:::{Bucket}"}]},
    {"intents": ["aws.s3.get-object", "aws.s3.put-object", "aws.s3.head-object", "aws.s3.create-multipart-upload", "aws.s3.upload-part", "aws.s3.complete-multipart-upload"], "allow": [OBJECT]},
]
STS = {"role": ROLE, "scope": SCOPE}
GRANTS = [{"intents": ["aws.s3.*", "aws.dynamodb.*"]}]
REGISTRY = {
    "agents": [{"id": "tester", "owner": "tests@acme.example", "workflows": ["everything"]}],
    "workflows": [{"id": "everything", "purpose": "Keep objects", "max_lifetime": "30m", "grants": GRANTS}],
}


@pytest.fixture(scope="session")
def aws(upstream):
    server = aws_server.Aws(upstream.ca)
    yield server
    server.stop()


@pytest.fixture
def work_aws(work, aws):
    """A workspace whose credential is AWS keys that moto knows."""
    aws.clear()
    kept, work.upstream.secrets = work.upstream.secrets, {"aws-secret": aws.secret}
    ws.VARIABLES["aws-secret"] = "ACME_AWS_SECRET_KEY"
    original_env = work.environment
    work.environment = lambda **extra: original_env(**{"ACME_AWS_ID": aws.id, **extra})
    original = work.configure

    def configure(credential=None, **changes):
        credentials = {"s3": {"kind": "aws", "hosts": aws_server.HOSTS, **KEYS, **(credential or {})}}
        resolve = {**aws.resolve(), RCLONE: changes.pop("rclone", "127.0.0.1:1")}
        workflow = {**REGISTRY["workflows"][0], "credential": "s3"}
        registry = {**REGISTRY, "workflows": [workflow]}
        upstream = {"allow_addresses": ["127.0.0.0/8"], "resolve": resolve}
        return original(**{"registry": registry, "credentials": credentials, "catalog": ["builtin"], "upstream": upstream, **changes})

    work.configure = configure
    yield work
    assert work.find_secrets() == [], "a real credential was written or printed (law 3)"
    work.upstream.secrets = kept
    del ws.VARIABLES["aws-secret"]


BOTO = f"""
import boto3, os, sys, hashlib, io
from botocore.config import Config
style = os.environ.get("STYLE", "path")
s3 = boto3.client("s3", region_name=os.environ.get("REGION", {REGION!r}), config=Config(s3={{"addressing_style": style}}, retries={{"total_max_attempts": 1}}, request_checksum_calculation=os.environ.get("CHECKSUMS", "when_supported")))
"""
EVERY_WAY = BOTO + """
from boto3.s3.transfer import TransferConfig
print("buckets", [b["Name"] for b in s3.list_buckets()["Buckets"]])
s3.put_object(Bucket="acme", Key="small.txt", Body=b"small")
s3.put_object(Bucket="acme", Key="a b/ü+(1)=~&$@:,é.txt", Body=b"named", Metadata={"owner": "acme  web"}, ContentType="text/plain; charset=utf-8")
s3.put_object(Bucket="acme", Key="empty", Body=b"")
big = os.urandom(3 << 20) * 4
open("big", "wb").write(big)
s3.put_object(Bucket="acme", Key="file", Body=open("big", "rb"))
s3.upload_file("big", "acme", "parts", Config=TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20))
print("keys", sorted(o["Key"] for o in s3.list_objects_v2(Bucket="acme", Prefix="", MaxKeys=1000)["Contents"]))
print("prefixed", [o["Key"] for o in s3.list_objects_v2(Bucket="acme", Prefix="a b/ü+(", Delimiter="/")["Contents"]])
got = [s3.get_object(Bucket="acme", Key=k)["Body"].read() for k in ("small.txt", "a b/ü+(1)=~&$@:,é.txt", "empty", "file", "parts")]
print("same", got == [b"small", b"named", b"", big, big])
print("range", s3.get_object(Bucket="acme", Key="small.txt", Range="bytes=1-2")["Body"].read())
print("meta", s3.head_object(Bucket="acme", Key="a b/ü+(1)=~&$@:,é.txt")["Metadata"])
"""
KEYS_KEPT = "['a b/ü+(1)=~&$@:,é.txt', 'empty', 'file', 'hello.txt', 'parts', 'small.txt']"


def signed_by(seen: dict) -> str:
    return seen["headers"]["authorization"].split("Credential=")[1].split("/")[0]
