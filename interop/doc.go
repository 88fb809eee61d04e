// Package interop runs wsd against other clients, servers, proxies and a browser, each a process of its own on this machine.
// It holds only tests. setup.sh installs what it needs. Tests whose peer is missing are skipped, or fail if the
// environment has WSD_INTEROP=required.
//
//	interop/setup.sh
//	cd interop && WSD_INTEROP=required go test -write-table
//
// -write-table writes docs/interop.md from what has been run. WSD_SCREENSHOTS names the directory for the browser's
// screenshots; the default is interop/screenshots.
package interop
