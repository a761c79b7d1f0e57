"""Real servers behind Remit's readers: MCP (the SDK's own), gRPC (grpcio), GraphQL (graphql-core).

Each wants the real credential in `x-api-key`, and each tells what came to it in `calls`.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import http.server
import json
import pathlib
import ssl
import subprocess
import sys
import threading
import time

import graphql
import grpc
import uvicorn
from grpc_tools import protoc
from mcp.server import MCPServer
from mcp.server.transport_security import TransportSecuritySettings
from mcp_types import ToolAnnotations

MCP, GRPC, GRAPHQL = "mcp.example.test", "grpc.example.test", "graphql.example.test"

PROTO = """syntax = "proto3";
package shop.v1;
service Orders {
  rpc GetOrder(Order) returns (Order) { option idempotency_level = NO_SIDE_EFFECTS; }
  rpc CreateOrder(Order) returns (Order);
  rpc DeleteOrder(Order) returns (Order);
  rpc WatchOrders(Order) returns (stream Order);
}
message Order { string id = 1; }
"""

SDL = """
type Query { issue(repo: String!, number: Int!): Issue search(text: String): [Issue] }
type Mutation {
  createIssue(input: CreateIssueInput!): Issue
  deleteIssue(id: ID!): Boolean @deprecated(reason: "close it")
}
input CreateIssueInput { repo: String! title: String! labels: [String!] clientMutationId: String }
type Issue { id: ID title: String }
"""


class Servers:
    def __init__(self, folder: pathlib.Path, authority, secret: str):
        self.folder, self.authority, self.secret = folder, authority, secret
        self.calls: list[tuple[str, object]] = []
        self.ports = {MCP: self._mcp(), GRPC: self._grpc(), GRAPHQL: self._graphql()}

    def stop(self) -> None:
        self._uvicorn.should_exit = True
        self._grpc_server.stop(0)
        self._http.shutdown()

    def descriptions(self) -> dict[str, pathlib.Path]:
        """What each says of itself, as `remit intents import` takes it."""
        files = {MCP: self.folder / "tools.json", GRPC: self.folder / "shop.binpb", GRAPHQL: self.folder / "schema.graphql"}
        tools = asyncio.run(self._server.list_tools())
        files[MCP].write_text(json.dumps({"tools": [t.model_dump(by_alias=True, exclude_none=True) for t in tools]}))
        files[GRAPHQL].write_text(SDL)
        assert protoc.main(["protoc", f"-I{self.folder}", f"--descriptor_set_out={files[GRPC]}", "--include_imports", "shop.proto"]) == 0
        return files

    # MCP over streamable HTTP

    def _mcp(self) -> int:
        server = self._server = MCPServer("tests")

        @server.tool(annotations=ToolAnnotations(readOnlyHint=True))
        def find_issue(repo: str, number: int) -> str:
            self.calls.append(("find_issue", repo))
            return f"issue {number} of {repo}"

        @server.tool(annotations=ToolAnnotations(destructiveHint=True))
        def delete_issue(repo: str, number: int) -> str:
            self.calls.append(("delete_issue", repo))
            return "gone"

        @server.resource("note://{name}")
        def note(name: str) -> str:
            return f"the note {name}"

        # the name that clients call stands in Host
        inner = server.streamable_http_app(transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False))

        async def app(scope, receive, send):
            if scope["type"] == "http" and dict(scope["headers"]).get(b"x-api-key") != self.secret.encode():
                await send({"type": "http.response.start", "status": 401, "headers": []})
                return await send({"type": "http.response.body", "body": b"who are you"})
            await inner(scope, receive, send)

        cert, key = self.authority.leaf(MCP)
        config = uvicorn.Config(app, host="127.0.0.1", port=0, ssl_certfile=cert, ssl_keyfile=key, log_level="warning")
        self._uvicorn = uvicorn.Server(config)
        threading.Thread(target=self._uvicorn.run, daemon=True).start()
        while not self._uvicorn.started:
            time.sleep(0.01)
        return self._uvicorn.servers[0].sockets[0].getsockname()[1]

    # gRPC

    def _grpc(self) -> int:
        (self.folder / "shop.proto").write_text(PROTO)

        def trusted(context: grpc.ServicerContext) -> None:
            if dict(context.invocation_metadata()).get("x-api-key") != self.secret:
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "who are you")

        def unary(name: str):
            def handle(request: bytes, context: grpc.ServicerContext) -> bytes:
                trusted(context)
                self.calls.append((name, context.time_remaining()))
                context.set_trailing_metadata((("x-checksum", str(len(request))), ("x-data-bin", b"\x00\xff")))
                if request == b"late":
                    time.sleep(5)
                if request == b"missing":
                    context.abort(grpc.StatusCode.NOT_FOUND, "no such order: é")
                return request

            return grpc.unary_unary_rpc_method_handler(handle)

        def watch(request: bytes, context: grpc.ServicerContext):
            trusted(context)
            for n in range(3):
                yield b"%d" % n

        methods = {name: unary(name) for name in ("GetOrder", "CreateOrder", "DeleteOrder")}
        methods["WatchOrders"] = grpc.unary_stream_rpc_method_handler(watch)
        self._grpc_server = grpc.server(concurrent.futures.ThreadPoolExecutor(8))
        self._grpc_server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shop.v1.Orders", methods),))
        cert, key = (file.read_bytes() for file in self.authority.leaf(GRPC))
        port = self._grpc_server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, cert)]))
        self._grpc_server.start()
        return port

    # GraphQL over HTTP

    def _graphql(self) -> int:
        schema, outer = graphql.build_schema(SDL), self

        def resolve(source, info: graphql.GraphQLResolveInfo, **arguments):
            if info.parent_type.name == "Issue":
                return source[info.field_name]
            outer.calls.append((info.field_name, arguments))
            return True if info.field_name == "deleteIssue" else {"id": "1", "title": "an issue"}

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                if self.headers["x-api-key"] != outer.secret:
                    return self._send(401, {"message": "who are you"})
                done = graphql.graphql_sync(
                    schema, body["query"], variable_values=body.get("variables"), operation_name=body.get("operationName"), field_resolver=resolve
                )
                self._send(200, done.formatted)

            def _send(self, status, value):
                text = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_):
                pass

        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.authority.leaf(GRAPHQL))
        self._http.socket = context.wrap_socket(self._http.socket, server_side=True)
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        return self._http.server_address[1]


def catalogs(binary: pathlib.Path, servers: Servers) -> list[pathlib.Path]:
    """Catalogs that `remit intents import` makes of what the servers say of themselves."""
    made = []
    for host, source in servers.descriptions().items():
        provider, out = host.split(".")[0] + "-test", servers.folder / f"{host}.yaml"
        line = [str(binary), "intents", "import", str(source), "--provider", provider, "--host", host, "-o", str(out)]
        done = subprocess.run(line, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        # an import never names a credential: that is the user's to say
        out.write_text(out.read_text().replace("operations:\n", "credential: rooms\noperations:\n", 1))
        made.append(out)
    return made


if __name__ == "__main__":
    sys.exit("imported by test_readers.py")
