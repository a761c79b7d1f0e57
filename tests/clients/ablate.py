"""Runs under `remit run`: makes one client's call with ever fewer of the variables that Remit set.

Says which proxy and CA variables are each enough alone, and what else cannot be left out.
"""

import concurrent.futures
import json
import os
import subprocess
import sys

spec = json.load(open(sys.argv[1]))
placed = {k: v for k, v in os.environ.items() if spec["outer"].get(k) != v}
proxies = {k for k, v in placed.items() if k.lower().endswith("_proxy") and v.startswith("http")}
files = {k for k, v in placed.items() if k not in proxies and os.path.isfile(v) and ("BEGIN CERTIFICATE" in open(v).read() or "ca_certificate" in open(v).read())}
rest = set(placed) - proxies - files


def works(keep):
    env = {k: v for k, v in os.environ.items() if k not in placed or k in keep} | HASTE
    try:
        done = subprocess.run(spec["command"], env=env, capture_output=True, timeout=20, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0 and spec["says"] in done.stdout.decode(errors="replace")


# a client that cannot reach its host should say so at once, not try again
HASTE = {"PIP_RETRIES": "0", "npm_config_fetch_retries": "0", "AWS_MAX_ATTEMPTS": "1", "TEST_NO_RETRIES": "1"}


def all_work(keeps):
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        return list(pool.map(works, keeps))


if not works(set(placed)):
    sys.exit("the call does not even go well with all variables set")
shown = [k for k in sorted(rest) if not k.startswith("_") and not any(t in k for t in ("TOKEN", "API_KEY"))]
needs = []
if not works(proxies | files | (rest - set(shown))):
    needs = [k for k, good in zip(shown, all_work([set(placed) - {k} for k in shown])) if not good]
result = {
    "proxy": [k for k, good in zip(sorted(proxies), all_work([files | rest | {k} for k in sorted(proxies)])) if good],
    "ca": [k for k, good in zip(sorted(files), all_work([proxies | rest | {k} for k in sorted(files)])) if good],
    "needs": needs,
}
json.dump(result, open(spec["out"], "w"))
