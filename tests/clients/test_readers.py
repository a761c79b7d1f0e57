"""GraphQL, MCP and gRPC: real clients and real servers, with catalogs made of what the servers say of themselves."""

from __future__ import annotations

import asyncio
import ssl
import time

import grpc
import httpx2
import pytest
import readers
import workspace as ws
from gql import Client, gql
from gql.transport.exceptions import TransportError, TransportQueryError
from gql.transport.httpx import HTTPXTransport
from mcp.client import Client as McpClient
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

GRANTS = [
    {"intents": ["graphql-test.query.issue"], "where": {"repo": "acme/web"}},
    {"intents": ["graphql-test.mutation.createIssue"], "where": {"input.repo": "acme/web"}},
    {"intents": ["mcp-test.session.*", "mcp-test.tools.list", "mcp-test.resources.*", "mcp-test.prompts.list"]},
    {"intents": ["mcp-test.tool.find_issue"], "where": {"repo": "acme/web"}},
    {"intents": ["grpc-test.orders.get-order", "grpc-test.orders.create-order", "grpc-test.orders.watch-orders"]},
]

REGISTRY = {
    "agents": [{"id": "tester", "owner": "tests@acme.example", "workflows": ["rooms"]}],
    "workflows": [{"id": "rooms", "purpose": "Speak every protocol", "max_lifetime": "30m", "grants": GRANTS}],
}


@pytest.fixture(scope="module")
def rooms(tmp_path_factory, upstream):
    """Servers, and `remit serve` in front of them."""
    servers = readers.Servers(tmp_path_factory.mktemp("rooms"), upstream.ca, upstream.secrets["lab"])
    workspace = ws.Workspace(tmp_path_factory.mktemp("readers") / "w", upstream)
    hosts = list(servers.ports)
    credentials = {"rooms": {"kind": "static", "hosts": hosts, "secret": {"env": "ACME_LAB_KEY"}, "inject": {"header": "x-api-key"}}}
    changes = {
        "registry": REGISTRY,
        "credentials": credentials,
        "guardrails": "package remit.guardrails\n",
        "catalog": [str(p) for p in readers.catalogs(ws.BINARY, servers)],
        "upstream": {"allow_addresses": ["127.0.0.0/8"], "resolve": {h: f"127.0.0.1:{p}" for h, p in servers.ports.items()}},
    }
    # `configure` takes them by name; `serve` writes the rest of the file
    with workspace.serve(**changes) as serving:
        serving.servers = servers
        yield serving
    servers.stop()
    assert workspace.find_secrets() == [], "a real credential was written or printed (law 3)"


@pytest.fixture
def task(rooms):
    rooms.servers.calls.clear()
    return rooms.task(workflow="rooms")


def proxy(rooms, task) -> str:
    return f"http://task:{task['handle']}@127.0.0.1:{rooms.port}"


def trust(rooms) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(rooms.workspace.folder / "ca.pem"))


def recorded(rooms, intent: str) -> list[dict]:
    """The decisions about one intent."""
    return [r for r in rooms.workspace.audit() if r.get("type", r.get("kind")) != "outcome" and any(i.get("id") == intent for i in r.get("intents", []))]


# GraphQL


def graph(rooms, task) -> Client:
    transport = HTTPXTransport(url=f"https://{readers.GRAPHQL}/graphql", verify=trust(rooms), proxy=proxy(rooms, task), trust_env=False)
    return Client(transport=transport, fetch_schema_from_transport=False)


ISSUE = gql("query Q($r: String!) { mine: issue(repo: $r, number: 1) { ...F } } fragment F on Issue { id title }")
CREATE = gql("mutation ($input: CreateIssueInput!) { createIssue(input: $input) { id } }")


def run(client: Client, document, **variables):
    document.variable_values = variables
    return client.execute(document)


def test_a_graphql_query_is_allowed_by_its_arguments(rooms, task):
    assert run(graph(rooms, task), ISSUE, r="acme/web") == {"mine": {"id": "1", "title": "an issue"}}
    run(graph(rooms, task), CREATE, input={"repo": "acme/web", "title": "x"})
    assert [c[0] for c in rooms.servers.calls] == ["issue", "createIssue"]


@pytest.mark.parametrize(
    ("document", "variables"),
    [
        (ISSUE, {"r": "acme/secret"}),
        (CREATE, {"input": {"repo": "acme/secret", "title": "x"}}),
        (gql('mutation { deleteIssue(id: "1") }'), {}),
        # one of two is not allowed
        (gql('{ issue(repo: "acme/web", number: 1) { id } other: issue(repo: "acme/secret", number: 2) @skip(if: true) { id } }'), {}),
        (gql('query { ... { search(text: "x") { id } } }'), {}),
    ],
)
def test_a_graphql_client_shows_the_refusal(rooms, task, document, variables):
    with pytest.raises(TransportError) as error:
        run(graph(rooms, task), document, **variables)
    assert "not_granted" in str(error.value) and isinstance(error.value, TransportQueryError), repr(error.value)
    assert rooms.servers.calls == []


# MCP


def mcp(rooms, task, use, mode="auto"):
    async def go():
        async with httpx2.AsyncClient(proxy=proxy(rooms, task), verify=trust(rooms), trust_env=False, timeout=20) as http:
            async with McpClient(streamable_http_client(f"https://{readers.MCP}/mcp", http_client=http), mode=mode) as client:
                return await use(client)

    return asyncio.run(go())


@pytest.mark.parametrize("mode", ["auto", "legacy", "2026-07-28"])
class TestMcp:
    def test_a_tool_is_allowed_by_its_arguments(self, rooms, task, mode):
        async def use(client):
            names = [t.name for t in (await client.list_tools()).tools]
            found = await client.call_tool("find_issue", {"repo": "acme/web", "number": 7})
            note = await client.read_resource("note://one")
            return names, found.content[0].text, note.contents[0].text

        names, found, note = mcp(rooms, task, use, mode)
        assert names == ["find_issue", "delete_issue"]
        assert (found, note) == ("issue 7 of acme/web", "the note one")
        assert rooms.servers.calls == [("find_issue", "acme/web")]

    @pytest.mark.parametrize(
        ("tool", "repo"), [("find_issue", "acme/secret"), ("delete_issue", "acme/web"), ("no_such_tool", "acme/web")]
    )
    def test_the_client_shows_the_refusal(self, rooms, task, mode, tool, repo):
        async def use(client):
            with pytest.raises(MCPError) as error:
                await client.call_tool(tool, {"repo": repo, "number": 7})
            return str(error.value)

        assert ("unknown_operation" if tool == "no_such_tool" else "not_granted") in mcp(rooms, task, use, mode)
        assert rooms.servers.calls == []


def test_mcp_headers_must_agree_with_the_body(rooms, task):
    headers = {"content-type": "application/json", "accept": "application/json, text/event-stream", "mcp-protocol-version": "2025-11-25"}
    body = b'{"jsonrpc": "2.0", "id": "seven", "method": "tools/call", "params": {"name": "delete_issue", "arguments": {}}}'
    answer = rooms.call(task, "POST", readers.MCP, "/mcp", {**headers, "mcp-method": "tools/list"}, body)
    value = answer.json()
    assert answer.status == 400 and value["id"] == "seven" and "Mcp-Method" in value["error"]["message"], value
    assert rooms.servers.calls == []


# gRPC


def orders(rooms, task) -> grpc.Channel:
    roots = (rooms.workspace.folder / "ca.pem").read_bytes()
    options = [("grpc.http_proxy", proxy(rooms, task))]
    return grpc.secure_channel(f"{readers.GRPC}:443", grpc.ssl_channel_credentials(roots), options=options)


def test_a_grpc_method_is_allowed_with_deadline_and_trailers(rooms, task):
    with orders(rooms, task) as channel:
        answer, call = channel.unary_unary("/shop.v1.Orders/GetOrder").with_call(b"\n\x011", timeout=20)
        trailers = dict(call.trailing_metadata())
        assert answer == b"\n\x011" and trailers["x-checksum"] == "3" and trailers["x-data-bin"] == b"\x00\xff"
        assert list(channel.unary_stream("/shop.v1.Orders/WatchOrders")(b"", timeout=20)) == [b"0", b"1", b"2"]
    [(name, left)] = rooms.servers.calls
    assert name == "GetOrder" and 10 < left < 20.5, "the deadline arrived"


def test_a_grpc_status_passes_as_upstream_gave_it(rooms, task):
    with orders(rooms, task) as channel:
        with pytest.raises(grpc.RpcError) as error:
            channel.unary_unary("/shop.v1.Orders/GetOrder")(b"missing", timeout=20)
        assert error.value.code() == grpc.StatusCode.NOT_FOUND and error.value.details() == "no such order: é"
        began = time.monotonic()
        with pytest.raises(grpc.RpcError) as error:
            channel.unary_unary("/shop.v1.Orders/GetOrder")(b"late", timeout=1)
        assert error.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED and time.monotonic() - began < 3


@pytest.mark.parametrize(("method", "reason"), [("DeleteOrder", "not_granted"), ("Nothing", "unknown_operation")])
def test_a_grpc_client_shows_the_refusal(rooms, task, method, reason):
    with orders(rooms, task) as channel:
        with pytest.raises(grpc.RpcError) as error:
            channel.unary_unary(f"/shop.v1.Orders/{method}")(b"x", timeout=20)
    assert error.value.code() == grpc.StatusCode.PERMISSION_DENIED and reason in error.value.details(), error.value.details()
    assert rooms.servers.calls == []


def test_every_intent_is_on_record(rooms, task):
    document = gql('mutation { a: deleteIssue(id: "1") createIssue(input: {repo: "acme/web", title: "x"}) { id } }')
    with pytest.raises(TransportError):
        run(graph(rooms, task), document)
    [record] = recorded(rooms, "graphql-test.mutation.deleteIssue")[-1:]
    assert [i["id"] for i in record["intents"]] == ["graphql-test.mutation.deleteIssue", "graphql-test.mutation.createIssue"]
