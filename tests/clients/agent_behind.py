"""An agent that people call: a FastAPI application as anyone writes it, instrumented by OpenTelemetry.

It knows nothing of Remit: its clients find the proxy in the environment, and OpenTelemetry passes the trace on.
Usage: agent_behind.py PORT
"""

from __future__ import annotations

import asyncio
import sys

import fastapi
import httpx
import uvicorn
from fastapi.responses import StreamingResponse
from opentelemetry import trace
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.sdk.trace import TracerProvider

trace.set_tracer_provider(TracerProvider())
HTTPXClientInstrumentor().instrument()
app = fastapi.FastAPI()
FastAPIInstrumentor.instrument_app(app)
# one client for everyone, as one writes it: its connections serve whoever calls
client = httpx.AsyncClient()
later: set[asyncio.Task] = set()


@app.get("/who")
async def who(request: fastapi.Request) -> dict:
    return {"principal": request.headers.get("remit-principal"), "authorization": request.headers.get("authorization")}


@app.get("/work/{item}")
async def work(item: int, steps: int = 3) -> dict:
    """Several calls, one after the other and two at a time, and others' requests between them."""
    answers = []
    for step in range(steps):
        both = await asyncio.gather(*(client.get(f"http://api.example.test/items/{item}-{step}-{half}") for half in "ab"))
        answers += [answer.status_code for answer in both]
        await asyncio.sleep(0.01)
    return {"answers": answers}


@app.get("/stream/{item}")
async def stream(item: int) -> StreamingResponse:
    async def parts():
        for step in range(3):
            answer = await client.get(f"http://api.example.test/items/{item}-{step}-s")
            yield f"data: {answer.status_code}\n\n"
            await asyncio.sleep(0.01)

    return StreamingResponse(parts(), media_type="text/event-stream")


@app.get("/later/{item}")
async def leave(item: int) -> dict:
    """Answers, and calls out when the answer is long gone; the trace is still that of the request."""

    async def call() -> None:
        await asyncio.sleep(0.5)
        await client.get(f"http://api.example.test/items/{item}-later-l")

    task = asyncio.create_task(call())
    later.add(task)
    task.add_done_callback(later.discard)
    return {}


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
