// ws.mjs is the npm package ws as a server and as a client.
import http from "node:http";
import https from "node:https";
import { WebSocket, WebSocketServer } from "ws";
import { ca, cert, key, listen, obey, pathOf, run, subprotocols, tell } from "./peer.mjs";

const maxPayload = 128 << 20;

function behave(ws, id) {
  const session = {
    send: (data, isText) => ws.send(data, { binary: !isText }),
    ping: text => ws.ping(text),
    close: (code, reason) => ws.close(code, reason),
    abort: () => ws.terminate(),
    fragments: parts => parts.forEach((part, i) => ws.send(part, { fin: i === parts.length - 1 })),
  };
  ws.on("message", (data, isBinary) => obey(session, data, !isBinary));
  ws.on("pong", data => tell({ event: "pong", id, data: data.toString() }));
  ws.on("close", (code, reason) => tell({ event: "closed", id, code, reason: reason.toString() }));
  ws.on("error", error => tell({ event: "error", id, error: error.message }));
}

run({
  name: "ws",
  serve(secure) {
    const wss = new WebSocketServer({
      noServer: true, maxPayload,
      perMessageDeflate: true,
      handleProtocols: asked => subprotocols.find(s => asked.has(s)) ?? false,
    });
    const server = secure ? https.createServer({ cert, key }) : http.createServer();
    server.on("upgrade", (request, socket, head) => wss.handleUpgrade(request, socket, head, ws => {
      const id = pathOf(request.url);
      behave(ws, id);
      tell({ event: "opened", id, subprotocol: ws.protocol, extensions: ws.extensions });
    }));
    return listen(server);
  },
  connect(order) {
    const id = pathOf(order.url);
    const ws = new WebSocket(order.url, order.subprotocols, { ca, maxPayload, perMessageDeflate: order.compress });
    behave(ws, id);
    ws.on("open", () => tell({ event: "opened", id, subprotocol: ws.protocol, extensions: ws.extensions }));
  },
});
