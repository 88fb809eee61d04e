// Package wsd implements WebSocket connections (RFC 6455), for servers and clients, that are made of channels.
//
// A connection reads ahead on its own. What arrives is delivered on a channel, and so are errors and the end of the
// connection, so a program waits for connections, timers and contexts with select, as for everything else:
//
//	for {
//		select {
//		case msg, ok := <-conn.Messages():
//			if !ok {
//				return conn.CloseEvent().Err // everything that arrived has been received
//			}
//			...
//		case <-ticker.C:
//			err := conn.Send(ctx, wsd.Text("still here"))
//			...
//		case <-ctx.Done():
//			return conn.Close(wsd.StatusGoingAway, "")
//		}
//	}
//
// [Accept] turns a request into a connection in any net/http handler. A [Server] does so too, and also runs a handler for
// each connection, keeps track of them and shuts them down. [Dial] connects to a server, [NewConn] runs over any byte
// stream, and [Relay] couples two connections. If only messages matter, range over [Conn.Each], or use [Conn.Receive] and
// [Conn.Send], which take a context.
//
// # Rules
//
// Keep receiving from Messages. While that channel is full, nothing is read from the network by default, so pings and
// the peer's close frame wait too; [Config].SlowConsumer has other policies. A loop that blocks in one of its cases, on
// a lock or on a full channel of its own, does not receive meanwhile. Send blocks when the peer does not read: if both
// sides may have much to send, send from a different goroutine than the one that receives, give Send a context with a
// deadline, or use [Conn.TrySend], which never waits.
//
// Errors need not be read. It is closed at the end, without a value if the end was clean and nothing was
// dropped. A closed channel is always ready: a loop that continues after that sets its variable for the channel to nil.
//
// Every connection ends. [Conn.Close] sends what is queued and performs the closing handshake, in times that
// Config.CloseTimeout bounds, [Conn.CloseNow] cuts the connection off, a keepalive finds peers that are gone, and
// Config.WriteTimeout those that take nothing of what is sent to them, even if they only pause because their own consumer
// does. At the end, in this order, the cause is stored, Messages is closed, Errors is closed, and [Conn.Closed] is closed.
// From then on [Conn.CloseEvent] is complete and
// nothing is left behind. A connection dropped without being closed lives on until its peer ends it or is gone.
//
// When a peer closes, the answers to messages that have just arrived still leave, if they are sent within some 16 ms, more
// on a busy machine. A handler that needs longer may lose its answer to a peer that is already closing.
//
// The Data of a message from Messages or Receive belongs to the receiver for good, or until [Message.Release]. The Data of
// a message from Each belongs to one iteration of the loop, and is then reused; a loop that is left keeps its message. The
// Data of a sent message belongs to the caller again when Send, TrySend or Prepare returns.
//
// # Contexts
//
// A context passed to a call bounds that call and nothing else. When it is done, the connection is unharmed, unless a
// message is cut in the middle, as documented for Send of a large message and for [Conn.Writer]. A context passed to
// Dial bounds the handshake. A nil context is refused with [ErrNilContext].
//
// The error of a call whose context is done matches both the context's error and its cause (context.Cause). If the call
// has succeeded at the same moment, it returns its result instead, and if the connection has ended, an error that
// says how. So [Conn.Context], which is canceled when the connection ends, can be passed to the connection's own methods
// without hiding why it ended. It has the cause of the end as its cause, and no values.
//
// # Handshakes
//
// [Accept] answers what it refuses with an HTTP status and a line of text that says what was wrong:
//
//   - 400 for a malformed request, or one for none of the subprotocols if one is required;
//   - 405 for a method other than GET;
//   - 403 for a web page of a foreign origin;
//   - 426 for a request that does not ask for a WebSocket, or for a version of the protocol other than 13;
//   - 500 if the options or the ResponseWriter are at fault, which only the error says.
//
// Over HTTP/2 and HTTP/3 a WebSocket begins with extended CONNECT (RFC 8441, RFC 9220), which is answered with 200: see
// [ConfigureHTTP2]. A GET gets 505 there, CONNECT without a protocol and other methods 405, another protocol than
// websocket 501, and another version of that 400.
//
// net/http holds some 5 KiB for a request until its handler returns. If there are many connections, let it return, and
// continue in another goroutine, as [Server.Serve] does.
//
// [Dial] follows redirects as HTTPClient.CheckRedirect decides, but never from wss to ws. Once a redirect has left the
// origin, which is scheme, host and port, requests no longer have Authorization, Cookie and the other header fields
// that HTTP has for credentials. They do have secrets in other fields: only CheckRedirect can know of those. A cookie
// jar follows its own rules. Of an answer that is not a handshake, up to 64 KiB can be read in the error's Response.
//
// net/http reaches an HTTP proxy without CONNECT for what it takes for an http URL, and few proxies pass an upgrade on. Dial
// changes that for an *http.Transport, but cannot reach one that a RoundTripper of the caller's wraps. There, connect to
// wss URLs, or let the wrapper have a Transport without Proxy whose DialContext asks the proxy for the tunnel, or set what
// the wrapper adds in DialOptions.Header and use the Transport itself.
//
// # Limits
//
// Everything that a peer could make grow is bounded by default: the size of a message, the number of its frames, what
// waits to be received and to be sent, and the time taken by handshakes, pings and the end. [Config] has the limits and
// their defaults; a negative value turns a limit off.
//
// # Tests
//
// Package wsdtest has connected clients and servers in memory, with handshakes and without, suitable for testing/synctest.
package wsd
