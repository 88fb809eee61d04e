// Package websocket has the names of github.com/gorilla/websocket, version 1.5.3, over the connections of package wsd. A
// program that uses gorilla moves here by changing one import:
//
//	import websocket "github.com/seed62836080/wsd/gorilla"
//
// What gorilla documents holds here too: a connection is read by whoever calls ReadMessage or NextReader, and only then;
// the handlers of control messages are called from there; a read deadline that passes ends the reading for good; Close
// closes the network connection at once. Errors have the same types and are matched by the same functions.
//
// Besides, any number of goroutines may write at a time, each message whole. What is different on purpose, such as that text
// has to be UTF-8, is in docs/from-gorilla.md with the reasons, and so is the way on to wsd's own interface, which has what
// this one cannot: contexts, channels, limits and time limits that hold by default.
//
// One goroutine at a time may read: ReadMessage, NextReader and its reader, ReadJSON, SetReadLimit and the setters of
// handlers. SetCompressionLevel must not be called while another goroutine writes. All else is safe for concurrent use.
package websocket
