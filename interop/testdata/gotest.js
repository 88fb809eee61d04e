// gotest.js runs a test binary built for js/wasm with the arguments that its own URL has, in a page or in a worker.
(async () => {
	const url = new URL(globalThis.document?.currentScript?.src ?? location.href)
	let posted = Promise.resolve() // in order
	const post = (path, body) => {
		const once = () => fetch(path, {method: "POST", body})
		posted = posted.then(once).catch(once) // again, if the server has closed the connection that was to be reused
	}
	if (globalThis.importScripts) {
		importScripts("/wasm_exec.js")
	} else {
		await new Promise((resolve, reject) => {
			const script = document.createElement("script")
			Object.assign(script, {src: "/wasm_exec.js", onload: resolve, onerror: reject})
			document.head.append(script)
		})
	}
	globalThis.printed = ""
	fs.writeSync = (_, bytes) => {
		printed += new TextDecoder().decode(bytes)
		post("/output", bytes.slice())
		return bytes.length
	}
	let status = 2
	try {
		const go = new Go()
		go.argv = ["test", ...url.searchParams.getAll("arg")]
		go.env = {TMPDIR: "/", WSD_SERVER: url.searchParams.get("server"), WSD_RUN: url.searchParams.get("run")}
		go.exit = code => { status = code }
		const {instance} = await WebAssembly.instantiateStreaming(fetch("/test.wasm"), go.importObject)
		await go.run(instance)
	} catch (e) {
		post("/output", String(e.stack ?? e))
	}
	post("/result", String(status))
})()
