// Package wsd makes WebSocket connections (RFC 6455), a server's and a client's, that consist of channels.
//
// A connection reads ahead by itself. What arrives comes out of a channel, and so do errors and the end, so that a
// program waits for connections, timers and contexts with select, as for everything else:
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
// [Accept] makes connections of requests in any handler of net/http, [Server] is a handler that also keeps count of
// them and shuts them down, [Dial] connects to a server, and [NewConn] takes any byte stream. Where only messages
// matter, ranging over [Conn.Messages] is enough, or [Conn.Receive] and [Conn.Send], which take a context.
//
// # Rules
//
// Keep receiving from Messages. While that channel is full nothing is read from the network, by default, so pings
// and the peer's close frame wait too; [Config].SlowConsumer has other policies. A loop that waits for something else
// in one of its cases, a lock or a full channel of its own, does not receive meanwhile. A Send waits when the peer does
// not read: where both sides may have much to send, send from another goroutine than the one that receives, or give
// Send a context with a deadline.
//
// Errors need not be read. It is closed at the end, without a value where the end was clean. A closed channel is always
// ready: a loop that goes on after it sets its variable for the channel to nil.
//
// A context given to a method bounds that call and nothing else: that it is done does no harm to the connection, but
// for a message that it cuts in the middle, where Send of a large message and [Conn.Writer] say so. A context given to
// Dial bounds the handshake. [Conn.Context] is cancelled when the connection ends.
//
// Every connection ends. [Conn.Close] performs the closing handshake within Config.CloseTimeout, [Conn.CloseNow] cuts
// it off, and a keepalive finds peers that are gone. At the end, in this order, the cause is stored, Messages is closed,
// Errors is closed, and [Conn.Closed] is closed; then [Conn.CloseEvent] is complete and nothing is left behind. A
// connection that is dropped without being closed lives on until its peer ends it or is gone.
//
// The Data of a received message belongs to the receiver, that of a sent one to the caller again when Send returns.
//
// # Limits
//
// Everything that a peer could make grow is bounded by default: a message's size, the number of its frames, what
// waits to be received and to be sent, the time of handshakes, pings and the end. [Config] has the limits and their
// defaults; a negative value turns one off.
//
// # Tests
//
// Package wsdtest has a connected client and server in memory, fit for testing/synctest.
package wsd
