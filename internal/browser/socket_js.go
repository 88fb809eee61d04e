// Package browser makes a stream of frames of the WebSocket that a browser has, and node, and every other host of
// JavaScript. What is read from it and written to it are the frames of a server (RFC 6455, section 5.2), which are not
// masked: a connection over it is one over any other stream. Under other systems than GOOS=js there is no Socket, and no
// connection is a browser's.
package browser

import (
	"context"
	"errors"
	"log"
	"net"
	"sync"
	"syscall/js"
	"time"
)

const (
	// errorPatience is how long an error event may be without the close event that browsers fire right behind it.
	errorPatience = 250 * time.Millisecond

	noStatus = 1005 // how a browser tells of a close frame without a code (RFC 6455, section 7.1.5)
	abnormal = 1006 // how it tells of an end without a close frame

	stateOpen = 1 // the readyState of an open WebSocket; higher ones are those of the end
)

var (
	// ErrClosed is returned by Read and Write after Close.
	ErrClosed = errors.New("the WebSocket is closed")
	errLost   = errors.New("the browser tells no more than the close code 1006")
	// ErrOffline is the error of an Open while the browser knows that there is no network.
	ErrOffline = errors.New("the browser is offline")
)

// ArgumentError says why a browser makes no WebSocket of what it is given. Nothing was sent.
type ArgumentError struct{ Problem string }

// Error returns what the browser says.
func (e *ArgumentError) Error() string { return e.Problem }

// Addr is the host and port that a browser was told to connect to. What it is connected to, it does not tell.
type Addr string

// Network returns "websocket".
func (Addr) Network() string { return "websocket" }

// String returns the host and port.
func (a Addr) String() string { return string(a) }

// Present says that the program runs where a browser has the network.
const Present = true

// Carries reports whether addr is that of a Socket's peer.
func Carries(addr net.Addr) bool {
	_, is := addr.(Addr)
	return is
}

// LogHookFailed says what slog's default logger would, and through a logger that the program has made the default: package
// log then writes to that. Calling slog would link all of it, and encoding/json with it: half a megabyte.
func LogHookFailed(hook string, cause error, stack string) {
	log.Printf("ERROR wsd: a hook failed hook=%s cause=%q stack=%q", hook, cause, stack)
}

// Hooks are how a Socket calls up. None may wait.
type Hooks struct {
	Overflow func()                             // once, when something that came was dropped, as all is that comes later
	Progress func()                             // the browser has passed on some of what it held
	Closing  func(code uint16) (instead uint16) // returns the code that the browser is to send for that of a close frame
}

// Socket is a WebSocket of the browser. One goroutine at a time may read, and one may write; Close may be called at any
// time, and has to be.
type Socket struct {
	ws       js.Value
	host     Addr
	sendMost int64 // bytes that the browser may hold before Write waits
	handlers []handler
	out      outgoing // Write's own

	opened  chan struct{} // closed by the open event
	arrived chan struct{} // has room for one value: there may be something to read, or the end
	ended   chan struct{} // closed by end

	closeOnce sync.Once
	mu        sync.Mutex // guards all below
	in        incoming
	hooks     Hooks       // of Serve
	over      bool        // ended is closed
	lost      error       // why, nil for an end with a close frame
	patience  *time.Timer // of an error event, nil before one
	turns     *turns      // nil before Write has waited
}

// handler is a function that the browser calls.
type handler struct {
	property string
	js.Func
}

// Open has the browser open a WebSocket to a ws or wss URL, and waits until it is open, or ctx is done. The browser may
// hold sendMost bytes before Write waits. An *ArgumentError means that the browser has not even tried.
func Open(ctx context.Context, url, host string, protocols []string, sendMost int64) (*Socket, error) {
	ws, err := construct(url, protocols)
	if err != nil {
		return nil, err
	}
	s := &Socket{ws: ws, host: Addr(host), sendMost: sendMost}
	s.opened, s.arrived, s.ended = make(chan struct{}), make(chan struct{}, 1), make(chan struct{})
	ws.Set("binaryType", "arraybuffer")
	s.handle("onopen", func(js.Value) { close(s.opened) })
	s.handle("onmessage", s.onMessage)
	s.handle("onerror", s.onError)
	s.handle("onclose", s.onClose)
	select {
	case <-s.opened:
		return s, nil
	case <-s.ended:
		err = s.reason()
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	_ = s.Close()
	return nil, err
}

// construct returns a new WebSocket, or what its constructor throws.
func construct(url string, protocols []string) (ws js.Value, err error) {
	constructor := js.Global().Get("WebSocket")
	if constructor.Type() != js.TypeFunction {
		return ws, &ArgumentError{"there is no WebSocket here; node has one from version 22 on, or with --experimental-websocket"}
	}
	list := make([]any, len(protocols))
	for i, protocol := range protocols {
		list[i] = protocol
	}
	defer func() {
		switch thrown := recover().(type) {
		case nil:
		case js.Error:
			err = &ArgumentError{messageOf(thrown.Value)}
		default:
			panic(thrown)
		}
	}()
	return constructor.New(url, list), nil
}

// messageOf returns what an exception or an event says, which may be nothing.
func messageOf(v js.Value) string {
	if text := v.Get("message"); text.Type() == js.TypeString {
		return text.String()
	}
	return ""
}

// spread is called for each event and each message that is sent, whose objects are js.Values with a finalizer of their own. The
// runtime keeps those of 8 KiB of memory in one list, which it walks for each that is added: up to a thousand, a quarter of all
// the time of a message. Garbage among them, of the same size, has the lists be short.
func spread(garbage int) {
	for range garbage {
		between = new([16]byte)
	}
}

var between *[16]byte

const (
	perEvent = 16 // for its five or six objects
	perSend  = 2
)

func (s *Socket) handle(property string, f func(event js.Value)) {
	h := handler{property, js.FuncOf(func(_ js.Value, args []js.Value) any {
		spread(perEvent)
		f(args[0])
		return nil
	})}
	s.handlers = append(s.handlers, h)
	s.ws.Set(property, h.Func)
}

// Serve tells a Socket whom to call. It is called once, before Read and Write.
func (s *Socket) Serve(hooks Hooks) {
	s.mu.Lock()
	s.hooks = hooks
	overflown := s.in.overflown
	s.mu.Unlock()
	if overflown {
		hooks.Overflow()
	}
}

// Subprotocol returns the subprotocol that was agreed on.
func (s *Socket) Subprotocol() string { return s.ws.Get("protocol").String() }

// Extensions returns the extensions that were agreed on.
func (s *Socket) Extensions() string { return s.ws.Get("extensions").String() }

// RemoteAddr returns an Addr.
func (s *Socket) RemoteAddr() net.Addr { return s.host }

func (s *Socket) onMessage(event js.Value) {
	if overflow := s.receive(frameOf(event.Get("data"))); overflow != nil {
		overflow()
	}
	s.tellReader()
}

// receive takes what has come, and returns what is to be called about it.
func (s *Socket) receive(f frame) (overflow func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.in.add(f) {
		return s.hooks.Overflow
	}
	return nil
}

func (s *Socket) onError(event js.Value) {
	err := errLost
	if text := messageOf(event); text != "" { // in node
		err = errors.New(text)
	}
	select {
	case <-s.opened:
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.patience == nil {
			s.patience = time.AfterFunc(errorPatience, func() { s.end(err) })
		}
	default:
		// There was no connection, and a close event would tell no more. In node there is none.
		if online := js.Global().Get("navigator"); online.Truthy() && online.Get("onLine").Equal(js.ValueOf(false)) {
			err = ErrOffline
		}
		s.end(err)
	}
}

func (s *Socket) onClose(event js.Value) {
	switch code := event.Get("code").Int(); {
	case code == noStatus:
		s.receive(closeFrame(nil))
	case code == abnormal || !event.Get("wasClean").Bool():
		s.end(errLost)
		return
	default:
		payload := []byte{byte(code >> 8), byte(code)}
		s.receive(closeFrame(append(payload, event.Get("reason").String()...)))
	}
	s.end(nil)
}

// end notes that nothing more comes. lost is why, nil for the end that a close frame is.
func (s *Socket) end(lost error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return
	}
	s.over, s.lost = true, lost
	if s.patience != nil {
		s.patience.Stop()
	}
	close(s.ended)
	s.tellReader()
}

// reason returns why the WebSocket has ended, nil for a close frame.
func (s *Socket) reason() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lost
}

func (s *Socket) tellReader() {
	select {
	case s.arrived <- struct{}{}:
	default:
	}
}

// Close ends reading and writing at once, has the browser close what is open, which a browser never does without a close
// frame, and releases everything.
func (s *Socket) Close() error {
	s.closeOnce.Do(func() {
		for _, h := range s.handlers {
			s.ws.Set(h.property, js.Null())
			h.Release()
		}
		if s.ws.Get("readyState").Int() <= stateOpen {
			s.ws.Call("close")
		}
		s.end(ErrClosed)
		s.forget()
	})
	return nil
}

// forget lets go of what nobody has read, and of what Write waited for.
func (s *Socket) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.in = incoming{overflown: true}
	if s.turns != nil {
		s.turns.release()
		s.turns = nil
	}
}
