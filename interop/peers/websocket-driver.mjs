// websocket-driver.mjs is the npm package websocket-driver as a server and as a client, with its permessage-deflate.
import http from "node:http";
import https from "node:https";
import net from "node:net";
import tls from "node:tls";
import deflate from "permessage-deflate";
import driver from "websocket-driver";
import { ca, cert, key, listen, obey, pathOf, run, subprotocols, tell } from "./peer.mjs";

const maxLength = 128 << 20;

function behave(ws, socket, id) {
  let opened = false, closed = false;
  const session = {
    send: (data, isText) => isText ? ws.text(data.toString()) : ws.binary(data),
    ping: text => ws.ping(text),
    close: (code, reason) => ws.close(reason, code),
    abort: () => socket.destroy(),
  };
  ws.on("open", () => {
    opened = true;
    tell({ event: "opened", id, subprotocol: ws.protocol ?? "" });
  });
  ws.on("message", event => obey(session, event.data, typeof event.data === "string"));
  ws.on("pong", event => tell({ event: "pong", id, data: event.data }));
  ws.on("close", event => {
    closed = true;
    socket.end();
    tell({ event: "closed", id, code: event.code, reason: event.reason });
  });
  ws.on("error", error => tell({ event: opened ? "error" : "failed", id, error: error.message }));
  // The driver does no I/O: that a socket ended without a close frame is for its user to see.
  socket.on("end", () => socket.destroy());
  socket.on("close", () => {
    if (!closed) tell({ event: "closed", id, code: 1006, reason: "" });
  });
  socket.on("error", error => tell({ event: "error", id, error: error.message }));
  socket.pipe(ws.io).pipe(socket);
}

run({
  name: "websocket-driver",
  cannot: {
    "fragments received": "sends every message in one frame",
    "absence of a code": "takes a close frame without a code for one with 1000",
    "close by the peer without a code": "always sends a code",
  },
  serve(secure) {
    const server = secure ? https.createServer({ cert, key }) : http.createServer();
    server.on("upgrade", (request, socket, head) => {
      const ws = driver.http(request, { maxLength, protocols: subprotocols });
      ws.addExtension(deflate);
      behave(ws, socket, pathOf(request.url));
      ws.io.write(head);
      ws.start();
    });
    return listen(server);
  },
  connect(order) {
    const { hostname: host, port, protocol } = new URL(order.url);
    const ws = driver.client(order.url, { maxLength, protocols: order.subprotocols });
    if (order.compress) ws.addExtension(deflate);
    const start = () => ws.start();
    const socket = protocol === "wss:" ? tls.connect({ host, port, ca }, start) : net.connect({ host, port }, start);
    behave(ws, socket, pathOf(order.url));
  },
});
