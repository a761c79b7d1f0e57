"""Requests of AWS operations from botocore's own serialisers, one JSON object a line.

    aws_requests.py OUT.jsonl [SAMPLE]

Every operation of every service in botocore's data is called with made-up parameters; the request is
taken just before it would be sent, and nothing is sent. SAMPLE takes every SAMPLEth service.
`want` is the id that the operation has in Remit's catalog.
"""

import json
import re
import sys

import botocore.session
from botocore.awsrequest import AWSResponse
from botocore.config import Config
from botocore.tokens import FrozenAuthToken

REGION = "us-east-1"


ARNS = {
    "KvsARN": "arn:aws:cloudfront::123456789012:key-value-store/v-store",
    "ConsumerARN": "arn:aws:kinesis:us-east-1:123456789012:stream/v-stream/consumer/v-consumer:1",
}


class Taken(Exception):
    pass


def kebab(name):
    """`CreateDBInstance` → `create-db-instance`: written here anew, not taken from Remit."""
    name = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1-\2", name)
    name = re.sub(r"([a-z0-9])([A-Z])", r"\1-\2", name)
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def text(name, shape):
    if shape.enum:
        return shape.enum[0]
    if name.lower().endswith("arn"):
        return ARNS.get(name, "arn:aws:kinesis:us-east-1:123456789012:stream/v-stream")
    if name == "PredictEndpoint":
        return "https://realtime.machinelearning.us-east-1.amazonaws.com"
    value = f"v-{kebab(name)}"
    least, most = shape.metadata.get("min", 0), shape.metadata.get("max")
    value = value.ljust(least, "0")
    return value[:most] if most else value


def value(name, shape, depth=0):
    kind = shape.type_name
    if kind == "structure":
        if getattr(shape, "is_document_type", False):
            return {"a": 1}
        members = shape.members
        if getattr(shape, "is_tagged_union", False):
            first = next(iter(members))
            return {first: value(first, members[first], depth + 1)}
        return {m: value(m, s, depth + 1) for m, s in members.items() if m in shape.required_members and depth < 12}
    if kind == "list":
        return [value(name, shape.member, depth + 1) for _ in range(max(1, shape.metadata.get("min", 1)))] if depth < 12 else []
    if kind == "map":
        return {text("key", shape.key): value(name, shape.value, depth + 1)} if depth < 12 else {}
    if kind in ("integer", "long"):
        return max(1, int(shape.metadata.get("min", 1)))
    if kind in ("float", "double"):
        return float(max(1, shape.metadata.get("min", 1)))
    if kind == "boolean":
        return True
    if kind == "timestamp":
        return 1700000000
    if kind == "blob":
        return b"bytes"
    return text(name, shape)


def parameters(service, model):
    shape = model.input_shape
    if shape is None:
        return {}
    made = {}
    for name, member in shape.members.items():
        required = name in shape.required_members
        simple = member.type_name in ("string", "integer", "long", "boolean")
        # S3 takes many that exclude each other, and rules of endpoints look into some.
        if required or (simple and service not in ("s3", "s3control") and name not in ("EndpointId", "AccountId")):
            if getattr(member, "is_streaming", False) or member.serialization.get("eventstream"):
                made[name] = b"bytes"
            else:
                made[name] = value(name, member)
    return made


class Answer(AWSResponse):
    def __init__(self, url, status, headers, content):
        super().__init__(url, status, headers, None)
        self._content = content


def client(session, service):
    made = session.create_client(
        service,
        region_name=REGION,
        aws_access_key_id="AKIDEXAMPLE",
        aws_secret_access_key="secret",
        aws_session_token="token",
        config=Config(retries={"total_max_attempts": 1}, parameter_validation=False, s3={"addressing_style": "auto"}),
    )
    return made


def main(out, sample):
    session = botocore.session.get_session()
    # Some services take a bearer token instead of a signature.
    session.get_auth_token = lambda **_: FrozenAuthToken("token")
    failed = []
    count = 0
    with open(out, "w", encoding="utf-8") as lines:
        for number, service in enumerate(session.get_available_services()):
            if number % sample:
                continue
            box, wanted = [], [""]

            def take(request, **_):
                if "DescribeEndpoints" in request.headers.get("X-Amz-Target", b"").__str__() and box is not None and wanted[0] != "DescribeEndpoints":
                    # Clients of some services first ask where to send the rest.
                    host = request.url.split("/")[2].replace(".timestream", "-cell1.timestream")
                    answer = json.dumps({"Endpoints": [{"Address": host, "CachePeriodInMinutes": 1}]}).encode()
                    return Answer(request.url, 200, {}, answer)
                box.append(request)
                raise Taken

            made = client(session, service)
            made.meta.events.register_first("before-send", take)
            for name in made.meta.service_model.operation_names:
                count += 1
                model = made.meta.service_model.operation_model(name)
                box.clear()
                wanted[0] = name
                try:
                    made._make_api_call(name, parameters(service, model))
                except Taken:
                    pass
                except Exception as e:  # noqa: BLE001  whatever a client finds wrong is counted
                    failed.append((service, name, f"{type(e).__name__}: {e}"[:200]))
                    continue
                if not box:
                    failed.append((service, name, "no request was made"))
                    continue
                lines.write(json.dumps(line(service, name, box[0])) + "\n")
    print(json.dumps({"operations": count, "not_made": failed}))


def line(service, name, request):
    body = request.body
    if hasattr(body, "read"):
        body = body.read()
    if isinstance(body, bytes):
        try:
            body = body.decode()
        except UnicodeDecodeError:
            body = None  # CBOR, which is matched by its path alone
    headers = {}
    for key, val in request.headers.items():
        val = val.decode() if isinstance(val, bytes) else str(val)
        if key.lower() not in ("authorization", "host", "content-length"):
            headers[key] = val
    return {"want": f"aws.{kebab(service)}.{kebab(name)}", "method": request.method, "url": request.url, "headers": headers, "body": body}


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1)
