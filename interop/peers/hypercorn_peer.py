"""python3-hypercorn as a server of extended CONNECT."""

import asyncio
import os
import socket
from importlib.metadata import version

from hypercorn.asyncio import serve as serve_asgi
from hypercorn.config import Config

from peer import MAX_SIZE, SUBPROTOCOLS, obey, run, tell

SERVING = set()


class Session:
    def __init__(self, send_event, id):
        self.send_event, self.id = send_event, id

    async def send(self, data):
        kind = "text" if isinstance(data, str) else "bytes"
        await self.send_event({"type": "websocket.send", kind: data})

    async def close(self, code, reason):
        await self.send_event({"type": "websocket.close", "code": code or 1000, "reason": reason})


async def app(scope, receive, send):
    if scope["type"] != "websocket":
        return
    await receive()  # websocket.connect
    id = scope["path"]
    subprotocol = next((s for s in SUBPROTOCOLS if s in scope["subprotocols"]), None)
    await send({"type": "websocket.accept", "subprotocol": subprotocol})
    tell("opened", id=id, subprotocol=subprotocol or "", extensions=scope["http_version"])
    session = Session(send, id)
    while (event := await receive())["type"] == "websocket.receive":
        data = event.get("text")
        await obey(session, event["bytes"] if data is None else data)
    tell("closed", id=id, code=event["code"])


async def serve(context):
    listener = socket.create_server(("127.0.0.1", 0))
    config = Config()
    config.bind = [f"fd://{listener.detach()}"]
    port = socket.socket(fileno=os.dup(int(config.bind[0][5:]))).getsockname()[1]
    config.websocket_max_message_size = MAX_SIZE
    config.errorlog = None
    if context:
        config.certfile, config.keyfile = os.environ["WSD_CERT"], os.environ["WSD_KEY"]
    forever = asyncio.Event()
    SERVING.add(asyncio.create_task(serve_asgi(app, config, shutdown_trigger=forever.wait)))
    return port


asyncio.run(run(version("hypercorn"), serve, None))
