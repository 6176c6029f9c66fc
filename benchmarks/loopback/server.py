"""A chat model on 127.0.0.1 that answers every request after DELAY_S seconds: `python server.py DELAY_S`.

Prints its port, and ends when its standard input does. GET /peak tells how many requests were in it at the same time
at most, since it was asked last. Needs aiohttp only; in a process of its own a client's CPU is the client's.
"""

from __future__ import annotations

import asyncio
import json
import sys

from aiohttp import web

CHOICE = {"index": 0, "message": {"role": "assistant", "content": "hello there"}, "finish_reason": "stop"}
USAGE = {"prompt_tokens": 20, "completion_tokens": 3, "total_tokens": 23}
ANSWER = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [CHOICE], "usage": USAGE}
BODY = json.dumps(ANSWER).encode()


class Server:
    def __init__(self, delay_s: float) -> None:
        self.delay_s, self.inside, self.peak = delay_s, 0, 0

    async def answer(self, request: web.Request) -> web.Response:
        await request.read()
        self.inside += 1
        self.peak = max(self.peak, self.inside)
        await asyncio.sleep(self.delay_s)
        self.inside -= 1
        return web.Response(body=BODY, content_type="application/json")

    async def tell(self, request: web.Request) -> web.Response:
        told, self.peak = self.peak, self.inside
        return web.json_response(told)


async def main() -> None:
    server, app = Server(float(sys.argv[1])), web.Application()
    app.router.add_post("/v1/chat/completions", server.answer)
    app.router.add_get("/peak", server.tell)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=4096)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(main())
