#!/usr/bin/env bash
# setup.sh installs what the tests of interop/ need and what is missing: the peers from Debian and from npm. Those in Go are
# in go.mod. Where that cannot be done it fails, and says what is missing.
set -euo pipefail
cd "$(dirname "$0")"

# What a package is recognized by, and its name.
readonly programs=(
	chromium:chromium firefox-esr:firefox-esr certutil:libnss3-tools node:nodejs npm:npm
	nginx:nginx haproxy:haproxy caddy:caddy apache2:apache2 tinyproxy:tinyproxy
	libwebsockets-test-server:libwebsockets-test-server libwebsockets-test-client:libwebsockets-test-server
	mosquitto:mosquitto websockify:websockify
)
readonly modules=(websockets aiohttp tornado h2 hypercorn wsproto)

missing=()
PATH=$PATH:/usr/sbin
for program in "${programs[@]}"; do
	command -v "${program%%:*}" >/dev/null || missing+=("${program#*:}")
done
# Older ones crash at the end of a WebSocket over HTTP/3.
version=$(chromium --no-sandbox --version 2>/dev/null | grep -o '[0-9]\+' | head -n 1 || true)
if ((${version:-0} < 156)) && [[ ! " ${missing[*]} " == *" chromium "* ]]; then missing+=(chromium); fi
# Not any Python: Debian's packages are for Debian's.
for module in "${modules[@]}"; do
	/usr/bin/python3 -c "import $module" 2>/dev/null || missing+=("python3-$module")
done
if ((${#missing[@]} > 0)); then
	sudo=()
	((EUID == 0)) || sudo=(sudo)
	# Installing a server starts it. RUNLEVEL=1 keeps it from that.
	"${sudo[@]}" apt-get update
	"${sudo[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y --no-install-recommends "${missing[@]}"
fi

# What was installed last is kept beside it, so that a second run finds nothing to do.
if ! cmp -s peers/package-lock.json peers/node_modules/.installed; then
	(cd peers && npm ci)
	cp peers/package-lock.json peers/node_modules/.installed
fi
