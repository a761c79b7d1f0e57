"""The last line of ./tests/run: `N passed, N failed`, over both runners, which must both have run something."""

import re
import sys
import xml.etree.ElementTree

rust_code, rust_log, clients_code, clients_xml = sys.argv[1:]
results = re.findall(r"^test result: \w+\. (\d+) passed; (\d+) failed;", open(rust_log, errors="replace").read(), re.MULTILINE)
passed, failed = sum(int(p) for p, _ in results), sum(int(f) for _, f in results)
problems = []
if int(rust_code) and not failed:
    problems.append("the Rust tests did not all build or run")
if not passed:
    problems.append("no Rust test passed")
try:
    suites = xml.etree.ElementTree.parse(clients_xml).getroot().iter("testsuite")
    counts = [[int(s.get(k, "0")) for k in ("tests", "failures", "errors", "skipped")] for s in suites]
except (OSError, xml.etree.ElementTree.ParseError):
    counts = []
good = sum(t - f - e - s for t, f, e, s in counts)
bad = sum(f + e for _, f, e, _ in counts)
if sum(s for *_, s in counts):
    problems.append("clients were skipped: a missing part is a failure")
if not good:
    problems.append("no client's test passed")
if int(clients_code) and not bad:
    problems.append("the clients' tests did not run to their end")
for problem in problems:
    print(f"tests: {problem}")
failed += bad + len(problems)
print(f"{passed + good} passed, {failed} failed")
sys.exit(1 if failed or int(rust_code) or int(clients_code) else 0)
