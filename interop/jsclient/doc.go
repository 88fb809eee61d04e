// Package jsclient holds the tests of a client that is built for GOOS=js, as its program has them: they dial the server
// that WSD_SERVER names. The tests of the package above build them, and run them in node, in browsers and in a worker.
package jsclient
