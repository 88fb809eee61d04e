// Package interop runs wsd against other clients, servers, proxies and a browser, each a process of its own on this machine.
// It holds tests alone. What it needs is installed by setup.sh; a peer that is missing makes its tests be skipped, or fail
// where the environment has WSD_INTEROP=required.
//
//	interop/setup.sh
//	cd interop && WSD_INTEROP=required go test -write-table
//
// -write-table writes docs/interop.md from what has been run. WSD_SCREENSHOTS names the directory for the browser's
// screenshots, interop/screenshots where it is not set.
package interop
