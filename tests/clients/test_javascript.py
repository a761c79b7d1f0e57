"""Node 24's fetch, octokit, openai; deno's fetch."""

import agent
import pytest
import workspace

REPO = "https://api.github.com/repos/acme/web"
SECRET_REPO = "https://api.github.com/repos/acme/secret"

FETCH = """
const answer = await fetch("%s");
const text = await answer.text();
if (!answer.ok) throw new Error(`${answer.status}: ${text}`);
console.log(text);
"""
OCTOKIT = """
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
const load = createRequire("%s/");
const { Octokit } = await import(pathToFileURL(load.resolve("octokit")).href);
const github = new Octokit({ auth: process.env.GITHUB_TOKEN, retry: { enabled: !process.env.TEST_NO_RETRIES } });
console.log((await github.rest.repos.get({ owner: "acme", repo: "%s" })).data.full_name);
"""
OPENAI = """
import { createRequire } from "node:module";
const { OpenAI } = createRequire("%s/")("openai");
const client = new OpenAI(process.env.TEST_NO_RETRIES ? { maxRetries: 0 } : {});
const messages = [{ role: "user", content: "hi" }];
const got = await client.chat.completions.create({ model: "gpt-test", messages });
console.log(got.choices[0].message.content);
let said = "";
for await (const chunk of await client.chat.completions.create({ model: "gpt-test", messages, stream: true })) said += chunk.choices[0].delta.content ?? "";
console.log("streamed:", said);
"""


def deno(code: str) -> list[str]:
    file = workspace.WORK / "deno-programs"
    file.mkdir(exist_ok=True)
    path = file / f"fetch-{abs(hash(code))}.js"
    path.write_text(code)
    return [agent.program("deno"), "run", "--quiet", "--no-lock", "--allow-net", str(path)]


def octokit(repo: str) -> list[str]:
    return agent.node(OCTOKIT % (workspace.NODE_MODULES, repo))


OPENAI_COMMAND = agent.node(OPENAI % workspace.NODE_MODULES)
CLIENTS = [
    agent.Client("Node 24 fetch", "api.github.com", agent.node(FETCH % REPO), agent.node(FETCH % SECRET_REPO), '"full_name": "acme/web"', "github"),
    agent.Client("octokit (Node 24)", "api.github.com", octokit("web"), octokit("secret"), "acme/web", "github"),
    agent.Client("openai (Node 24)", "api.openai.com", OPENAI_COMMAND, OPENAI_COMMAND, "streamed: Hello from upstream", "openai", refused_workflow="nothing"),
    agent.Client("deno fetch", "api.github.com", deno(FETCH % REPO), deno(FETCH % SECRET_REPO), '"full_name": "acme/web"', "github"),
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
