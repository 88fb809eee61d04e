// echo.js is what jsstay is, without Go: what the conformance suite finds in it is the host's.
const ask = globalThis.document ? new URL(document.currentScript.src).searchParams : new URLSearchParams(process.argv[2])
function stay() {
	const socket = new WebSocket(ask.get("url"))
	let ended = false
	const again = () => {
		if (!ended) setTimeout(stay, 10)
		ended = true
	}
	socket.binaryType = "arraybuffer"
	socket.onmessage = event => socket.send(event.data)
	socket.onclose = again
	socket.onerror = () => setTimeout(again, 250) // in some versions of node no close event follows
}
for (let i = 0; i < ask.get("n"); i++) stay()
