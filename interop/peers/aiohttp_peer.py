"""python3-aiohttp as a server and as a client."""

import asyncio

import aiohttp
from aiohttp import WSMsgType, web

from peer import MAX_SIZE, SUBPROTOCOLS, client_context, obey, path_of, run, tell


class Session:
    def __init__(self, ws, id, transport):
        self.ws, self.id, self.transport = ws, id, transport

    async def send(self, data):
        if isinstance(data, str):
            await self.ws.send_str(data)
        else:
            await self.ws.send_bytes(data)

    async def ping(self, data):
        await self.ws.ping(data.encode())

    async def close(self, code, reason):
        await self.ws.close(code=code or 1000, message=(reason or "").encode())

    async def abort(self):
        self.transport().abort()


async def behave(ws, id, transport):
    extensions = "permessage-deflate" if ws.compress else ""
    tell("opened", id=id, subprotocol=getattr(ws, "ws_protocol", None) or getattr(ws, "protocol", None) or "", extensions=extensions)
    session = Session(ws, id, transport)
    reason = ""
    while True:
        message = await ws.receive()
        if message.type == WSMsgType.TEXT or message.type == WSMsgType.BINARY:
            await obey(session, message.data)
        elif message.type == WSMsgType.PING:
            await ws.pong(message.data)
        elif message.type == WSMsgType.PONG:
            tell("pong", id=id, data=message.data.decode())
        else:
            if message.type == WSMsgType.CLOSE:
                reason = message.extra or ""
            break
    tell("closed", id=id, code=ws.close_code, reason=reason)


async def handle(request):
    # Without autoping pongs are delivered, and pings have to be answered by hand.
    ws = web.WebSocketResponse(protocols=SUBPROTOCOLS, compress=True, autoping=False, max_msg_size=MAX_SIZE)
    await ws.prepare(request)
    await behave(ws, request.path, lambda: request.transport)
    return ws


async def serve(context):
    app = web.Application()
    app.router.add_get("/{tail:.*}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    return runner.addresses[-1][1]


async def connect(order):
    url = order["url"]
    async with aiohttp.ClientSession() as session:
        async with session.ws_connect(
            url,
            ssl=client_context() if url.startswith("wss:") else None,
            protocols=order["subprotocols"],
            compress=15 if order["compress"] else 0,
            autoping=False,
            max_msg_size=MAX_SIZE,
        ) as ws:
            await behave(ws, path_of(url), lambda: ws._response.connection.transport)


asyncio.run(
    run(
        aiohttp.__version__,
        serve,
        connect,
        cannot={
            "fragments received": "sends every message in one frame",
            "close by the peer without a code": "always sends a code",
            "absence of a code": "tells of code 0 where none came, rather than of 1005",
        },
    )
)
