"""python3-websockets as a server and as a client."""

import asyncio

import websockets
from websockets.version import version

from peer import MAX_SIZE, SUBPROTOCOLS, client_context, obey, path_of, run, tell


class Session:
    def __init__(self, ws, id):
        self.ws, self.id = ws, id

    async def send(self, data):
        await self.ws.send(data)

    async def ping(self, data):
        pong = await self.ws.ping(data)
        pong.add_done_callback(lambda _: tell("pong", id=self.id, data=data))

    async def close(self, code, reason):
        await self.ws.close(code or 1000, reason or "")

    async def abort(self):
        self.ws.transport.abort()

    async def fragments(self, parts):
        await self.ws.send(parts)


async def behave(ws, id):
    extensions = ", ".join(extension.name for extension in ws.extensions)
    tell("opened", id=id, subprotocol=ws.subprotocol or "", extensions=extensions)
    session = Session(ws, id)
    try:
        async for message in ws:
            await obey(session, message)
    except websockets.ConnectionClosed:
        pass
    await ws.wait_closed()
    tell("closed", id=id, code=ws.close_code, reason=ws.close_reason)


async def serve(context):
    server = await websockets.serve(
        behave, "127.0.0.1", 0, ssl=context, subprotocols=SUBPROTOCOLS, max_size=MAX_SIZE
    )
    return server.sockets[0].getsockname()[1]


async def connect(order):
    url = order["url"]
    async with websockets.connect(
        url,
        ssl=client_context() if url.startswith("wss:") else None,
        subprotocols=order["subprotocols"] or None,
        compression="deflate" if order["compress"] else None,
        max_size=MAX_SIZE,
    ) as ws:
        await behave(ws, path_of(url))


asyncio.run(run(version, serve, connect, cannot={"close by the peer without a code": "always sends a code"}))
