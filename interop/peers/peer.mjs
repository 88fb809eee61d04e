// peer.mjs is what the JavaScript peers share: how they are told what to do, and how they tell what happened.
//
// A peer is started as "peer.mjs-user server" or "... client". It prints one JSON object a line: first {"event": "ready"},
// of a server with its ports, then what happens on each connection, which is known by the path of its URL. A client reads
// one JSON object a line that says where to connect; both end when their standard input does.
import fs from "node:fs";
import { createRequire } from "node:module";
import readline from "node:readline";

export const subprotocols = ["wsd.v1", "wsd.v2"]; // what the servers speak
export const cert = fs.readFileSync(process.env.WSD_CERT);
export const key = fs.readFileSync(process.env.WSD_KEY);
export const ca = fs.readFileSync(process.env.WSD_CA);

export const tell = event => process.stdout.write(JSON.stringify(event) + "\n");

// version returns the version of an npm package.
export function version(name) {
  const path = createRequire(import.meta.url).resolve.paths(name)
    .map(dir => `${dir}/${name}/package.json`).find(file => fs.existsSync(file));
  return JSON.parse(fs.readFileSync(path)).version;
}

// obey does what a text message that begins with "!" asks for, and sends every other message back. The session has
// send(data, isText), ping(text), close(code, reason), abort() and fragments(parts, isText), where the library can.
export function obey(session, data, isText) {
  const text = isText ? data.toString() : "";
  if (!text.startsWith("!")) {
    session.send(data, isText);
    return;
  }
  const order = JSON.parse(text.slice(1));
  switch (order.do) {
    case "close": return session.close(order.code, order.reason);
    case "abort": return session.abort();
    case "ping": return session.ping(order.data);
    case "say": return session.send("s".repeat(order.size), true);
    case "fragments": {
      const parts = Array.from({ length: order.parts }, (_, i) => String.fromCharCode(97 + i).repeat(order.size));
      return session.fragments(parts);
    }
    default: throw new Error(`unknown order ${text}`);
  }
}

export const pathOf = url => new URL(url, "ws://localhost").pathname;

// run starts a peer: serve(secure) resolves to a port, connect(order) opens a connection. It has the version of the npm
// package name, unless release says otherwise.
export async function run({ name, release, cannot = {}, serve, connect }) {
  const ready = { event: "ready", version: release ?? version(name), cannot };
  const role = process.argv[2];
  if (role === "server") {
    ready.ws = await serve(false);
    ready.wss = await serve(true);
  }
  const lines = readline.createInterface({ input: process.stdin });
  lines.on("line", line => connect(JSON.parse(line)));
  lines.on("close", () => process.exit(0));
  tell(ready);
}

// listen has a server listen on a free port of this machine.
export const listen = server => new Promise((resolve, reject) => {
  server.on("error", reject);
  server.listen(0, "127.0.0.1", () => resolve(server.address().port));
});
