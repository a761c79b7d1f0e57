"""What the binary may depend on: licences, one TLS crypto backend, one of each protocol crate, nothing from git."""

import collections
import json
import re
import subprocess
import sys

LICENCES = {
    "0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0", "CDLA-Permissive-2.0", "ISC",
    "MIT", "MIT-0", "Unicode-3.0", "Unlicense", "Zlib", "OpenSSL",
}
# a second TLS stack or crypto backend, or what is not maintained any more
BANNED = {"aws-lc-rs", "aws-lc-sys", "openssl", "openssl-sys", "native-tls", "boring", "serde_yaml", "reqwest"}
# two versions of one of these would be two protocols, or two ideas of a type that crosses rooms
SINGLE = {"hyper", "hyper-util", "http", "http-body", "h2", "rustls", "ring", "tokio", "bytes", "serde", "serde_json", "regorus", "tower"}

metadata = json.loads(subprocess.run(["cargo", "metadata", "--format-version", "1", "--locked"], check=True, capture_output=True).stdout)
packages = {p["id"]: p for p in metadata["packages"]}
own = set(metadata["workspace_members"])
problems = []


def shipped() -> set[str]:
    """What the binary is built of: dependencies for this platform, without those of tests and builds alone."""
    lines = subprocess.run(["cargo", "tree", "--locked", "-e", "normal", "--prefix", "none", "-f", "{p}"], check=True, capture_output=True, text=True).stdout
    return {" ".join(line.split()[:2]).replace(" v", " ") for line in lines.splitlines() if line.strip()}


def permitted(expression: str) -> bool:
    """SPDX, as far as crates use it: every AND part must have one OR choice that is on the list."""
    flat = expression.replace("/", " OR ").replace("(", " ( ").replace(")", " ) ")
    tokens = re.findall(r"\(|\)|AND|OR|[^()\s]+(?: WITH [^()\s]+)?", flat)
    text = "".join({"AND": " and ", "OR": " or ", "(": "(", ")": ")"}.get(t, f" {t in LICENCES} ") for t in tokens)
    return bool(eval(text, {"__builtins__": {}}))  # noqa: S307: made of and, or, parentheses, True, False


in_binary = shipped()
versions = collections.defaultdict(set)
for package in packages.values():
    name = f"{package['name']} {package['version']}"
    if package["id"] in own:
        continue
    source = package["source"] or ""
    if not source.startswith("registry+"):
        problems.append(f"{name} comes from {source or 'a path'}, not from the registry")
    if name not in in_binary:
        continue
    versions[package["name"]].add(package["version"])
    licence = package["license"]
    if not licence or not permitted(licence):
        problems.append(f"{name}: licence {licence or 'not stated'} is not on the list in {sys.argv[0]}")
    if package["name"] in BANNED:
        problems.append(f"{name} is banned")
for name in sorted(SINGLE):
    if len(versions[name]) > 1:
        problems.append(f"{name} is there in {len(versions[name])} versions: {', '.join(sorted(versions[name]))}")
if "ring" not in versions:
    problems.append("ring, the one crypto backend, is not there")
for problem in problems:
    print(f"dependencies: {problem}", file=sys.stderr)
print(f"dependencies: {len(in_binary)} crates in the binary, {len(problems)} problems")
sys.exit(bool(problems))
