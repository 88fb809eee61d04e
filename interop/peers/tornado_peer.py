"""python3-tornado as a server and as a client."""

import asyncio

import tornado
from tornado.httpclient import HTTPRequest
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application
from tornado.websocket import WebSocketClosedError, WebSocketHandler, websocket_connect

from peer import MAX_SIZE, SUBPROTOCOLS, client_context, obey, path_of, run, tell


class Session:
    """What tornado's handler and its client connection have in common."""

    def __init__(self, ws, id, stream):
        self.ws, self.id, self.stream = ws, id, stream

    async def send(self, data):
        await self.ws.write_message(data, binary=isinstance(data, bytes))

    async def ping(self, data):
        self.ws.ping(data.encode())

    async def close(self, code, reason):
        self.ws.close(code, reason)

    async def abort(self):
        self.stream().close()

    def opened(self):
        tell("opened", id=self.id, subprotocol=self.ws.selected_subprotocol or "")

    def pong(self, data):
        tell("pong", id=self.id, data=data.decode())

    def closed(self):
        tell("closed", id=self.id, code=self.ws.close_code, reason=self.ws.close_reason or "")


class Handler(WebSocketHandler):
    def select_subprotocol(self, subprotocols):
        return next((s for s in SUBPROTOCOLS if s in subprotocols), None)

    def get_compression_options(self):
        return {}

    def open(self):
        self.session = Session(self, self.request.path, lambda: self.ws_connection.stream)
        self.session.opened()

    async def on_message(self, message):
        await obey(self.session, message)

    def on_pong(self, data):
        self.session.pong(data)

    def on_close(self):
        self.session.closed()


async def serve(context):
    app = Application([("/.*", Handler)], websocket_max_message_size=MAX_SIZE)
    server = HTTPServer(app, ssl_options=context)
    sockets = bind_sockets(0, "127.0.0.1")
    server.add_sockets(sockets)
    return sockets[0].getsockname()[1]


async def connect(order):
    url = order["url"]
    ws = await websocket_connect(
        HTTPRequest(url, ssl_options=client_context() if url.startswith("wss:") else None),
        subprotocols=order["subprotocols"] or None,
        compression_options={} if order["compress"] else None,
        max_message_size=MAX_SIZE,
    )
    session = Session(ws, path_of(url), lambda: ws.protocol.stream)
    ws.on_pong = session.pong
    session.opened()
    try:
        while (message := await ws.read_message()) is not None:
            await obey(session, message)
    except WebSocketClosedError:
        pass
    session.closed()


asyncio.run(
    run(
        tornado.version,
        serve,
        connect,
        cannot={
            "fragments received": "sends every message in one frame",
            "absence of a code": "tells of no code where none came, rather than of 1005",
            "absence of a close": "tells of no code where no close frame came, rather than of 1006",
            "compression without takeover": "does not see extension parameters that have no value",
        },
    )
)
