"""AWS and Google: what the vendors' own clients send is taken for the operation that they were told to call.

The requests are botocore's and googleapiclient's, for every operation that they know; none of Remit's code makes
them. Without --long every twelfth service and document is taken. Each miss must stand in docs/aws-and-google.md.
"""

import json
import pathlib
import subprocess
import sys

import pytest
import workspace

HERE = pathlib.Path(__file__).parent
DOCUMENT = HERE.parent.parent / "docs" / "aws-and-google.md"

# What is asked for, over all together.
SHARE = 0.999


def requests_of(script, path, sample):
    made = subprocess.run(
        [sys.executable, str(HERE / script), str(path), str(sample)], capture_output=True, text=True, timeout=900, check=False
    )
    assert made.returncode == 0, made.stderr[-2000:]
    return json.loads(made.stdout.splitlines()[-1])


def intents(*arguments):
    return subprocess.run([str(workspace.BINARY), "intents", *arguments, "--output", "json"], capture_output=True, text=True, timeout=600, check=False)


def present(ids):
    """The present ids of operations: what shares all its requests with another goes by the other's."""
    shown = (intents("show", i) for i in ids)
    return {json.loads(s.stdout)["id"] for s in shown if s.returncode == 0}


def misses(path):
    with open(path, encoding="utf-8") as lines:
        wanted = [json.loads(line) for line in lines]
    answers = [json.loads(line) for line in intents("match", "--input", str(path)).stdout.splitlines()]
    assert len(answers) == len(wanted)
    found = []
    for want, answer in zip(wanted, answers, strict=True):
        ids = [i["id"] for i in answer.get("intents", [])]
        accepted = {want["want"], *want.get("versions", [])}
        if len(ids) == 1 and (ids[0] in accepted or ids[0] in present(accepted)):
            continue
        found.append((want["want"], ids or answer["refused"]["detail"], want["method"], want["url"][:200]))
    return len(wanted), found


@pytest.mark.timeout(1200)
def test_requests_of_the_vendors_clients_are_what_they_were_made_for(tmp_path, pytestconfig):
    sample = 1 if pytestconfig.getoption("--long") else 12
    document = DOCUMENT.read_text(encoding="utf-8")
    total, missed, made = 0, [], {}
    for script, name in (("aws_requests.py", "aws"), ("google_requests.py", "google")):
        path = tmp_path / f"{name}.jsonl"
        made[name] = requests_of(script, path, sample)
        count, found = misses(path)
        assert count > 0.99 * made[name]["operations"], f"{name}: too few requests were made: {made[name]['not_made'][:5]}"
        total += count
        missed += found
    print(f"{total} requests, {len(missed)} misses")
    unexplained = [m for m in missed if f"`{m[0]}`" not in document]
    assert not unexplained, f"not in {DOCUMENT.name}: {unexplained[:10]}"
    assert len(missed) <= (1 - SHARE) * total, f"{len(missed)} of {total}: {missed[:10]}"


def test_a_bearer_of_two_operations_is_refused():
    url = "https://dynamodb.us-east-1.amazonaws.com/"
    for arguments in (
        ["POST", url, "-H", "X-Amz-Target: DynamoDB_20120810.GetItem", "-H", "X-Amz-Target: DynamoDB_20120810.DeleteItem", "-d", "{}"],
        ["POST", f"{url}?Action=DeleteTable", "-H", "X-Amz-Target: DynamoDB_20120810.GetItem", "-d", "{}"],
        ["POST", "https://sts.amazonaws.com/?Action=GetCallerIdentity", "-d", "Action=AssumeRole&Version=2011-06-15"],
        ["POST", "https://sts.amazonaws.com/", "-d", "Action=GetCallerIdentity&Action=AssumeRole&Version=2011-06-15"],
        ["GET", "https://b.s3.eu-west-1.amazonaws.com/k?acl&tagging"],
    ):
        answer = json.loads(intents("match", *arguments).stdout)
        assert answer.get("refused", {}).get("reason") == "ambiguous_request", (arguments, answer)
