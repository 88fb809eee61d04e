#!/usr/bin/env bash
# setup.sh installs what the tests of cmd/wsd need and what is missing, from Debian and from npm. Where that cannot be done it
# fails, and says what is missing.
set -euo pipefail
cd "$(dirname "$0")"

# What a package is recognized by, and its name.
readonly programs=(
	chromium:chromium nginx:nginx node:nodejs npm:npm websockify:websockify tmux:tmux fish:fish zsh:zsh ssh:openssh-client
	sshd:openssh-server
)

missing=()
PATH=$PATH:/usr/sbin
for program in "${programs[@]}"; do
	command -v "${program%%:*}" >/dev/null || missing+=("${program#*:}")
done
/usr/bin/python3 -c 'import websockets' 2>/dev/null || missing+=(python3-websockets)
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
