"""Requests of Google's methods from googleapiclient, one JSON object a line.

    google_requests.py OUT.jsonl [SAMPLE]

Every method of every discovery document that the package carries is called with made-up parameters that fit
their patterns; the client builds the request, and nothing is sent. Methods that take media are called with
some as well. SAMPLE takes every SAMPLEth document. `want` is the vendor's own id of the method, as
Remit writes it; `versions` are ids that Remit may use when versions of an API contradict each other.
"""

import glob
import io
import json
import os
import re
import sys

import googleapiclient
from googleapiclient.discovery import build_from_document
from googleapiclient.http import MediaIoBaseUpload


class Transport:
    """Stands where httplib2 would be: nothing is sent."""

    def request(self, *_, **__):
        raise AssertionError("a request was sent")


def kebab(name):
    name = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1-\2", name)
    name = re.sub(r"([a-z0-9])([A-Z])", r"\1-\2", name)
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def fitting(pattern, name):
    """A text that a pattern takes, of the kinds that Google's documents have."""
    out = pattern.strip("^$")
    out = out.replace("[^/]+", "v1x").replace("[^/]*", "v1x").replace(".*", "v2/x").replace(".+", "v2/x")
    out = out.replace(r"\S{1,66}", "v1x")
    out = re.sub(r"\(\?:([^|()]*)\|[^()]*\)", r"\1", out)
    if re.fullmatch(pattern, out):
        return out
    for text in ("v1", "a", "1", "v1x", "a1b2c3d4", "2024-01-01", "en", "12345", "AA", "0" * 16, "true"):
        if re.fullmatch(pattern, text):
            return text
    made = re.sub(r"\\S(\{[^}]*\})?", "v1x", out)
    made = re.sub(r"\[[^\]]*0-9[^\]]*\](\{[^}]*\}|[+*])?", "7", made)
    made = re.sub(r"\[[^\]]*a-z[^\]]*\](\{[^}]*\}|[+*])?", "a", made)
    return made if re.fullmatch(pattern, made) else None


def argument(name, parameter):
    if parameter.get("enum"):
        text = parameter["enum"][0]
    elif parameter.get("pattern"):
        text = fitting(parameter["pattern"], name)
        if text is None:
            return f"v-{kebab(name)}" if parameter.get("required") else None
    elif parameter.get("type") == "integer":
        text = str(max(1, int(parameter.get("minimum", 1) or 1)))
    elif parameter.get("type") == "number":
        text = "1.5"
    elif parameter.get("type") == "boolean":
        text = "true"
    else:
        text = f"v-{kebab(name)}"
    return text


def convert(text, kind):
    if kind == "integer":
        return int(text)
    if kind == "number":
        return float(text)
    if kind == "boolean":
        return True
    return text


def methods(document, path=()):
    for name, method in (document.get("methods") or {}).items():
        yield path, name, method
    for name, resource in (document.get("resources") or {}).items():
        yield from methods(resource, path + (name,))


def body(document, method):
    name = (method.get("request") or {}).get("$ref")
    if not name:
        return None
    made = {}
    for key, schema in (document["schemas"][name].get("properties") or {}).items():
        kind = schema.get("type")
        if kind in ("string", "integer", "boolean", "number"):
            made[key] = convert("1" if kind in ("integer", "number") else f"v-{kebab(key)}", kind)
    return made


def python_name(name):
    """How the client spells a name (googleapiclient's `fix_method_name` and `key2param`)."""
    from googleapiclient.discovery import fix_method_name

    return fix_method_name(name)


def parameter_name(name):
    from googleapiclient.discovery import key2param

    return key2param(name)


def call(service, document, path, name, method, media):
    resource = service
    for part in path:
        resource = getattr(resource, python_name(part))()
    arguments = {}
    for key, parameter in (method.get("parameters") or {}).items():
        text = argument(key, parameter)
        if text is None:
            continue
        text = convert(text, parameter.get("type"))
        arguments[parameter_name(key)] = [text, text] if parameter.get("repeated") and parameter["location"] == "query" and not media else text
    content = body(document, method)
    if content is not None:
        arguments["body"] = content
    if media:
        arguments["media_body"] = MediaIoBaseUpload(io.BytesIO(b"bytes"), mimetype=media, resumable=False)
    return getattr(resource, python_name(name))(**arguments)


def accepted(method):
    """A media type that a method takes."""
    upload = method.get("mediaUpload") or {}
    if not upload or "simple" not in upload.get("protocols", {}):
        return None
    first = (upload.get("accept") or ["application/octet-stream"])[0]
    kind, _, rest = first.partition("/")
    return f"{'application' if kind == '*' else kind}/{'octet-stream' if rest in ('', '*') else rest}"


def main(out, sample):
    documents = sorted(glob.glob(os.path.join(os.path.dirname(googleapiclient.__file__), "discovery_cache/documents/*.json")))
    failed, count = [], 0
    with open(out, "w", encoding="utf-8") as lines:
        for number, file in enumerate(documents):
            with open(file, encoding="utf-8") as text:
                document = json.load(text)
            if number % sample or "rootUrl" not in document:
                continue
            service = build_from_document(document, http=Transport())
            ids = [m["id"] for _, _, m in methods(document)]
            for path, name, method in methods(document):
                own = method["id"].split(".")[1:]
                if ids.count(method["id"]) > 1 or not method["id"].startswith(document["name"] + "."):
                    own = [*path, name]
                rest = ".".join(kebab(p) for p in own)
                group = kebab(document["name"])
                want = f"google.{group}.{rest}"
                versioned = f"google.{group}-{kebab(document['version'])}.{rest}"
                for media in {None, accepted(method)}:
                    count += 1
                    try:
                        request = call(service, document, path, name, method, media)
                    except Exception as e:  # noqa: BLE001  whatever the client finds wrong is counted
                        failed.append((method["id"], document["version"], f"{type(e).__name__}: {e}"[:200]))
                        continue
                    content = request.body
                    if isinstance(content, bytes):
                        content = content.decode("utf-8", "replace")
                    lines.write(
                        json.dumps(
                            {
                                "want": want,
                                "versions": [versioned],
                                "method": request.method,
                                "url": request.uri,
                                "headers": {k: str(v) for k, v in request.headers.items()},
                                "body": content,
                            }
                        )
                        + "\n"
                    )
    print(json.dumps({"operations": count, "not_made": failed}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1)
