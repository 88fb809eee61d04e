// versions.js opens WebSockets to the server of its page, and tells that server what came of them.

const base = location.href.replace(/^http/, "ws").replace(/[^/]*$/, "");

// open opens one, and resolves to how it ended. Received is called with each message.
function open(path, received) {
  return new Promise(resolve => {
    const told = { path, opened: false };
    const socket = new WebSocket(base + path, ["none", "echo"]);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      Object.assign(told, { opened: true, subprotocol: socket.protocol, extensions: socket.extensions });
      socket.send("Gr\u00fc\u00dfe");
    };
    socket.onmessage = event => received?.(socket, event.data, told);
    socket.onclose = event => resolve(Object.assign(told, { code: event.code, reason: event.reason, clean: event.wasClean }));
  });
}

// echo sends what was sent back once more, as a megabyte, and then closes.
function echo(socket, data, told) {
  const size = 1 << 20;
  if (typeof data === "string") {
    told.text = data;
    socket.send(Uint8Array.from({ length: size }, (_, i) => i % 251));
    return;
  }
  told.binary = data.byteLength === size && new Uint8Array(data).every((byte, i) => byte === i % 251);
  socket.close(4000, "done");
}

async function run() {
  const [navigation] = performance.getEntriesByType("navigation");
  const sockets = [];
  for (const path of ["closes", "cuts", "refuses"]) {
    sockets.push(await open(path));
  }
  sockets.push(...await Promise.all(Array.from({ length: 20 }, () => open("echo", echo))));
  return { protocol: navigation.nextHopProtocol, sockets };
}

run().catch(error => ({ error: String(error) })).then(result => fetch("result", { method: "POST", body: JSON.stringify(result) }));
