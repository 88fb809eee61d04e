// Package otelwsd is OpenTelemetry for WebSockets of wsd: metrics of all connections, and a span for each. A server needs two
// lines:
//
//	telemetry, err := otelwsd.New(wsd.ServerRole, nil)
//	err = telemetry.Watch(ws)
//
// and a client the Trace of one that was made for wsd.ClientRole.
//
// # Metrics
//
// The semantic conventions have no names for WebSockets yet. These are in their manner, with "server" or "client" for SIDE:
//
//	websocket.SIDE.connections           {connection}  counter         connections that were opened
//	websocket.SIDE.active_connections    {connection}  up-down counter those that are open
//	websocket.SIDE.connection.duration   s             histogram       how long they were open; 1 2 3
//	websocket.SIDE.messages              {message}     counter         messages; 4 5
//	websocket.SIDE.io                    By            counter         their bytes, uncompressed; 4 5
//	websocket.SIDE.wire.io               By            counter         their bytes on the wire, without frame headers; 4 5
//	websocket.SIDE.dropped_messages      {message}     counter         received messages that were discarded; 5
//	websocket.SIDE.received_pings        {ping}        counter         pings from peers
//	websocket.SIDE.ping.duration         s             histogram       from a ping to its pong, the keepalive's too
//	websocket.SIDE.stalled_connections   {connection}  up-down counter those whose reader waits for its consumer
//	websocket.SIDE.stall.duration        s             histogram       how long messages waited for that
//	websocket.SIDE.queue.overflows       {overflow}    counter         sends that found the queue full
//	websocket.server.refused_handshakes  {handshake}   counter         handshakes that failed; 6
//
// From the Stats of the servers that are watched:
//
//	websocket.server.queue.size          By            up-down counter bytes that wait to be written
//	websocket.server.queue.age           s             gauge           how long the oldest of them has been waiting
//	websocket.server.writes              {write}       counter         writes to the transport
//	websocket.server.coalesced_pongs     {pong}        counter         pings without a pong of their own
//	websocket.server.limited_handshakes  {handshake}   counter         those that were refused because of Server.Limits
//	websocket.server.failed_handlers     {handler}     counter         handlers that panicked
//
// Their attributes, besides Options.Attributes:
//
//  1. websocket.close.code: the CloseEvent's; "3xxx" and "4xxx" for those that are not registered and not in
//     Options.CloseCodes
//  2. websocket.close.initiator: "local" or "peer"
//  3. error.type, if the connection failed: pong_timeout, write_timeout, close_timeout, slow_consumer, body_timeout, or the
//     close code
//  4. network.io.direction: receive or transmit
//  5. websocket.message.type: text or binary
//  6. http.response.status_code, if there was an answer
//
// So a Telemetry makes some hundred series at most, whatever peers do. Addresses and paths are in spans only. To tell
// endpoints apart, make a Telemetry for each, with Options.Attributes.
//
// # Spans
//
// The span of a connection lasts as long as the connection. It begins a trace of its own, which is linked to the span of the
// request: that of middleware, or else the one that the client passed on in the header. Options.ChildSpans makes it a child.
// Its name is "websocket" and, on a server, the route of the http.ServeMux. At the end it has the close code and sums of
// messages, and its status is Error if the connection failed. Its events, of which Options.SpanEvents bounds the number, are
// websocket.stall.begun, websocket.stall.ended, websocket.message.dropped and websocket.queue.full. A handshake that is
// refused is an event of the request's span, websocket.handshake.refused. Connections that are not sampled have none of
// this.
//
// # Cost
//
// A message costs some additions to counters of which there is a set for every few connections, and no allocation; they are
// read when metrics are collected. A connection costs a few dozen bytes beside its span.
package otelwsd
