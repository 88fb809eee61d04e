"""python3-h2 as a client of extended CONNECT, with the frames of python3-wsproto."""

import asyncio
from urllib.parse import urlsplit

import h2
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    RemoteSettingsChanged,
    ResponseReceived,
    StreamEnded,
    StreamReset,
)
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage
from wsproto.extensions import PerMessageDeflate

from peer import client_context, obey, path_of, run, tell


class Stream:
    """One connection with one stream, and the WebSocket over it."""

    def __init__(self, order, reader, writer):
        self.order, self.reader, self.writer = order, reader, writer
        self.id = path_of(order["url"])
        self.http = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self.ws = None
        self.stream = None
        self.unsent = bytearray()  # what the windows do not permit yet
        self.ending = False  # END_STREAM follows what is unsent
        self.over = False
        self.parts = []
        self.code, self.reason = 1006, ""

    async def live(self):
        self.http.initiate_connection()
        self.http.update_settings({h2.settings.SettingCodes.ENABLE_PUSH: 0})
        await self.flush()
        while not self.over:
            data = await self.reader.read(1 << 16)
            if not data:
                break
            for event in self.http.receive_data(data):
                await self.handle(event)
            self.pump()
            await self.flush()
        self.writer.close()
        tell("closed", id=self.id, code=self.code, reason=self.reason)

    async def handle(self, event):
        if isinstance(event, RemoteSettingsChanged) and self.stream is None:
            self.ask()
        elif isinstance(event, ResponseReceived):
            self.answered(dict(event.headers))
        elif isinstance(event, DataReceived):
            self.http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            if not event.data or self.ws.state is ConnectionState.CLOSED:
                return  # END_STREAM may come with no bytes
            self.ws.receive_data(event.data)
            for ws_event in self.ws.events():
                await self.received(ws_event)
        elif isinstance(event, (StreamEnded, StreamReset, ConnectionTerminated)):
            self.over = True

    def ask(self):
        if not self.http.remote_settings.enable_connect_protocol:
            raise ConnectionError("extended CONNECT is not announced")
        url = urlsplit(self.order["url"])
        headers = [
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "https" if url.scheme == "wss" else "http"),
            (":path", url.path),
            (":authority", url.netloc),
            ("sec-websocket-version", "13"),
        ]
        if self.order["subprotocols"]:
            headers.append(("sec-websocket-protocol", ", ".join(self.order["subprotocols"])))
        self.deflate = PerMessageDeflate() if self.order["compress"] else None
        if self.deflate:
            headers.append(("sec-websocket-extensions", f"permessage-deflate; {self.deflate.offer()}"))
        self.stream = self.http.get_next_available_stream_id()
        self.http.send_headers(self.stream, headers)

    def answered(self, headers):
        if headers[":status"] != "200":
            raise ConnectionError(f"status {headers[':status']}")
        accepted = headers.get("sec-websocket-extensions", "")
        extensions = []
        if accepted:
            self.deflate.finalize(accepted)
            extensions.append(self.deflate)
        self.ws = Connection(ConnectionType.CLIENT, extensions)
        tell("opened", id=self.id, subprotocol=headers.get("sec-websocket-protocol", ""), extensions=accepted)

    async def received(self, event):
        if isinstance(event, (TextMessage, BytesMessage)):
            self.parts.append(event.data)
            if event.message_finished:
                parts, self.parts = self.parts, []
                whole = parts[0][:0].join(parts)
                await obey(self, whole if isinstance(whole, str) else bytes(whole))
        elif isinstance(event, Ping):
            self.queue(event.response())
        elif isinstance(event, Pong):
            tell("pong", id=self.id, data=bytes(event.payload).decode())
        elif isinstance(event, CloseConnection):
            self.code, self.reason = int(event.code), event.reason or ""
            if self.ws.state is ConnectionState.REMOTE_CLOSING:
                self.queue(event.response())
            self.ending = True

    def queue(self, event):
        self.unsent += self.ws.send(event)

    def pump(self):
        """Sends what the windows permit."""
        if self.stream is None or self.over:
            return
        while self.unsent:
            room = min(self.http.local_flow_control_window(self.stream), self.http.max_outbound_frame_size)
            if room <= 0:
                return
            self.http.send_data(self.stream, bytes(self.unsent[:room]))
            del self.unsent[:room]
        if self.ending:
            self.ending = False
            self.http.end_stream(self.stream)

    async def flush(self):
        self.writer.write(self.http.data_to_send())
        await self.writer.drain()

    async def send(self, data):
        self.queue(TextMessage(data=data) if isinstance(data, str) else BytesMessage(data=data))

    async def ping(self, data):
        self.queue(Ping(payload=data.encode()))

    async def close(self, code, reason):
        self.queue(CloseConnection(code=code or 1000, reason=reason))

    async def abort(self):
        self.http.reset_stream(self.stream, ErrorCodes.CANCEL)
        self.over = True

    async def fragments(self, parts):
        for i, part in enumerate(parts):
            self.queue(TextMessage(data=part, message_finished=i == len(parts) - 1))


async def connect(order):
    url = urlsplit(order["url"])
    context = None
    if url.scheme == "wss":
        context = client_context()
        context.set_alpn_protocols(["h2"])
    reader, writer = await asyncio.open_connection(url.hostname, url.port, ssl=context)
    await Stream(order, reader, writer).live()


asyncio.run(run(h2.__version__, None, connect, cannot={"close by the peer without a code": "always sends a code"}))
