// node-http2.mjs is node's http2 as a server and as a client of extended CONNECT, with the frames of the npm package ws.
import http2 from "node:http2";
import { extension, PerMessageDeflate, WebSocket } from "ws";
import { ca, cert, key, listen, obey, pathOf, run, subprotocols, tell } from "./peer.mjs";

const maxPayload = 128 << 20;

// deflateIn returns the offers, or the answers, of compression in a header field.
const deflateIn = field => field ? extension.parse(field)[PerMessageDeflate.extensionName] : undefined;

// overStream is a WebSocket over a stream. Deflate is what was agreed on, if anything was.
function overStream(stream, id, isServer, protocol, deflate) {
  const ws = new WebSocket(null, undefined, { autoPong: true, closeTimeout: 30_000 });
  ws._isServer = isServer;
  ws._protocol = protocol;
  if (deflate) ws._extensions[PerMessageDeflate.extensionName] = deflate;
  const session = {
    send: (data, isText) => ws.send(data, { binary: !isText }),
    ping: text => ws.ping(text),
    close: (code, reason) => ws.close(code, reason),
    abort: () => stream.close(http2.constants.NGHTTP2_CANCEL),
    fragments: parts => parts.forEach((part, i) => ws.send(part, { fin: i === parts.length - 1 })),
  };
  ws.on("message", (data, isBinary) => obey(session, data, !isBinary));
  ws.on("pong", data => tell({ event: "pong", id, data: data.toString() }));
  ws.on("close", (code, reason) => tell({ event: "closed", id, code, reason: reason.toString() }));
  ws.on("error", error => tell({ event: "error", id, error: error.message }));
  ws.setSocket(stream, Buffer.alloc(0), { allowSynchronousEvents: true, maxPayload, skipUTF8Validation: false });
  tell({ event: "opened", id, subprotocol: ws.protocol, extensions: ws.extensions });
}

run({
  name: "ws",
  release: process.version.slice(1),
  serve(secure) {
    const options = { cert, key, settings: { enableConnectProtocol: true } };
    const server = secure ? http2.createSecureServer(options) : http2.createServer(options);
    server.on("sessionError", () => {}); // of connections that are cut
    server.on("stream", (stream, headers) => {
      stream.on("error", () => {}); // ws tells
      if (headers[":method"] !== "CONNECT" || headers[":protocol"] !== "websocket") {
        stream.respond({ ":status": 501 }, { endStream: true });
        return;
      }
      const answer = { ":status": 200 };
      const asked = (headers["sec-websocket-protocol"] ?? "").split(/\s*,\s*/);
      const protocol = subprotocols.find(s => asked.includes(s)) ?? "";
      if (protocol) answer["sec-websocket-protocol"] = protocol;
      const offers = deflateIn(headers["sec-websocket-extensions"]);
      let deflate;
      if (offers) {
        deflate = new PerMessageDeflate({ isServer: true, maxPayload });
        deflate.accept(offers);
        answer["sec-websocket-extensions"] = extension.format({ [PerMessageDeflate.extensionName]: [deflate.params] });
      }
      stream.respond(answer);
      overStream(stream, pathOf(headers[":path"]), true, protocol, deflate);
    });
    return listen(server);
  },
  connect(order) {
    const url = new URL(order.url);
    const id = url.pathname;
    const scheme = url.protocol === "wss:" ? "https" : "http";
    const failed = error => tell({ event: "failed", id, error: String(error) });
    const session = http2.connect(`${scheme}://${url.host}`, { ca });
    session.on("error", failed);
    session.once("remoteSettings", settings => {
      if (!settings.enableConnectProtocol) return failed("extended CONNECT is not announced");
      const headers = {
        ":method": "CONNECT", ":protocol": "websocket", ":scheme": scheme, ":path": id, ":authority": url.host,
        "sec-websocket-version": "13",
      };
      if (order.subprotocols.length) headers["sec-websocket-protocol"] = order.subprotocols.join(", ");
      let deflate;
      if (order.compress) {
        deflate = new PerMessageDeflate({ isServer: false, maxPayload });
        headers["sec-websocket-extensions"] = extension.format({ [PerMessageDeflate.extensionName]: deflate.offer() });
      }
      const stream = session.request(headers, { endStream: false });
      stream.on("error", () => {}); // ws tells
      stream.on("close", () => session.close());
      stream.on("response", answer => {
        if (answer[":status"] !== 200) return failed(`status ${answer[":status"]}`);
        const accepted = deflateIn(answer["sec-websocket-extensions"]);
        if (accepted) deflate.accept(accepted);
        overStream(stream, id, false, answer["sec-websocket-protocol"] ?? "", accepted && deflate);
      });
    });
  },
});
