// undici.mjs is the npm package undici, whose WebSocket is the browsers', as a client.
import { Agent, WebSocket, buildConnector, ping } from "undici";
import diagnostics from "node:diagnostics_channel";
import { ca, obey, pathOf, run, tell } from "./peer.mjs";

const ids = new WeakMap();
diagnostics.subscribe("undici:websocket:pong", ({ websocket, payload }) => {
  tell({ event: "pong", id: ids.get(websocket), data: Buffer.from(payload).toString() });
});

run({
  name: "undici",
  cannot: {
    "fragments received": "sends every message in one frame",
    "compression received": "inflates what it receives and sends everything uncompressed",
    "takeover received": "sends everything uncompressed",
  },
  connect(order) {
    const id = pathOf(order.url);
    let socket;
    const connector = buildConnector({ ca, allowH2: false });
    const dispatcher = new Agent({
      connect: (options, callback) => connector(options, (error, made) => {
        socket = made;
        callback(error, made);
      }),
    });
    const ws = new WebSocket(order.url, { protocols: order.subprotocols, dispatcher });
    ids.set(ws, id);
    ws.binaryType = "arraybuffer";
    const session = {
      send: data => ws.send(data),
      ping: text => ping(ws, Buffer.from(text)),
      close: (code, reason) => ws.close(code, reason),
      abort: () => socket.destroy(),
    };
    let opened = false;
    ws.onopen = () => {
      opened = true;
      tell({ event: "opened", id, subprotocol: ws.protocol, extensions: ws.extensions });
    };
    ws.onmessage = event => obey(session, event.data, typeof event.data === "string");
    ws.onclose = event => tell({ event: "closed", id, code: event.code, reason: event.reason });
    ws.onerror = event => tell({ event: opened ? "error" : "failed", id, error: String(event.error ?? event.message) });
  },
});
