"""What the record says of a delegation, read with the commands that an auditor has."""

import json

from test_surviving import REGISTRY, delegate

SCHEMA = {"category_uid", "class_uid", "activity_id", "type_uid", "severity_id", "time", "metadata", "actor", "api", "src_endpoint"}


def test_a_delegation_is_shown_as_a_tree_and_found_by_whom_it_was_for(work):
    with work.serve(registry=REGISTRY) as serving:
        task = serving.task(agent="lead", workflow="count")
        assert serving.call(task, "GET", "api.github.com", "/repos/acme/web").status == 200
        child = delegate(serving, task)
        assert serving.call(child, "GET", "lab.example.test", "/echo").status == 200
        assert serving.call(child, "GET", "lab.example.test", "/status/200").status == 403
        other = serving.task(agent="helper", workflow="count")
        assert serving.call(other, "GET", "lab.example.test", "/echo").status == 200
        serving.end(task)
        line = ["audit", "tree", task["id"], "--config", serving.file]
        tree = work.remit(*line)
        assert tree.returncode == 0, tree.stderr
        text = tree.stdout
        lines = text.splitlines()
        assert lines[0].startswith(f"{task['id']} lead/count for alice@acme.example (not verified), ended: asked"), text
        read = next(x for x in lines if "github.repos.get" in x)
        assert "→ 200" in read and "by count/3 (" in read and "registry/agents.yaml:" in read and "with github" in read, read
        below = lines[lines.index(next(x for x in lines if child["id"] in x)) :]
        assert "helper/count" in below[0] and "ended: parent" in below[0], text
        assert any("chain: alice@acme.example → lead/count → helper/count" in x for x in below), text
        assert any("lab.echo.read" in x and "count/1" in x for x in below) and any(" deny " in x and "→ 403" in x for x in below), text
        assert other["id"] not in text
        place = read.split("(")[-1].split(")")[0]
        file, number = place.rsplit(":", 1)
        written = (work.folder / file).read_text().splitlines()
        assert "github.*" in "".join(written[int(number) - 1 : int(number) + 4]), place

        value = json.loads(work.remit(*line, "--output", "json").stdout)
        assert value["task"]["id"] == task["id"] and value["ended"]["why"] == "asked"
        part = next(i["child"] for i in value["items"] if "child" in i)
        assert part["task"]["parent"] == task["id"] and len([i for i in part["items"] if "call" in i]) == 2
        allowed = next(i["call"] for i in part["items"] if "call" in i and i["call"]["decision"]["decision"] == "allow")
        assert allowed["decision"]["grants"] == ["count/1", "count/1"], "one for each link"
        assert allowed["outcome"]["status"] == 200 and "count/1" in allowed["decision"]["grants_at"]
        # of the files alone it works too, and what is not there is said
        assert work.remit("audit", "tree", child["id"], work.audit_folder).returncode == 0
        gone = work.remit("audit", "tree", "t-NONE", work.audit_folder)
        assert gone.returncode == 1 and "no record names" in gone.stderr

        def tail(*more):
            done = work.remit("audit", "tail", work.audit_folder, "-n", "100", "--output", "json", *more)
            assert done.returncode == 0, done.stderr
            return [json.loads(x)["decision"] for x in done.stdout.splitlines()]

        assert len(tail()) == len(tail("--principal", "alice@*")) == 4 and tail("--principal", "bob@acme.example") == []
        assert [d["intents"][0]["id"] for d in tail("--resource", "repo=web")] == ["github.repos.get"]
        assert tail("--resource", "repo=web", "--resource", "owner=other") == []
        assert {d["agent"] for d in tail("--intent", "lab.*", "--agent", "helper", "--decision", "allow")} == {"helper"}

        done = work.remit("audit", "export", "--config", serving.file, "--since", "1h")
        events = [json.loads(x) for x in done.stdout.splitlines()]
        assert len(events) == 4 and len({e["id"] for e in events}) == 4
        assert all(e["specversion"] == "1.0" and SCHEMA <= set(e["data"]) and e["data"]["class_uid"] == 6003 for e in events)
        assert {e["data"]["actor"]["user"]["uid"] for e in events} == {"alice@acme.example"}
        assert work.remit("audit", "export", work.audit_folder, "--until", "1h").stdout == ""
        again = work.remit("audit", "export", work.audit_folder).stdout
        assert again == done.stdout
