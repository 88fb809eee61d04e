// turns_js.go waits for the host's event loop, which passes on what the host holds for the network. A timer would do, too, but
// takes 4 ms in browsers where one has followed another.

package browser

import "syscall/js"

// turns are turns of the event loop.
type turns struct {
	await  js.Func
	turned chan struct{} // has room for the one value that await sends
	ask    func()        // has await called once the event loop has turned
	forget func()        // has it called no more
}

// newTurns uses setImmediate, which node has, or else a channel of messages.
func newTurns() *turns {
	t := &turns{turned: make(chan struct{}, 1)}
	t.await = js.FuncOf(func(js.Value, []js.Value) any {
		t.turned <- struct{}{}
		return nil
	})
	if setImmediate := js.Global().Get("setImmediate"); setImmediate.Type() == js.TypeFunction {
		asked := js.Undefined()
		t.ask = func() { asked = setImmediate.Invoke(t.await) }
		t.forget = func() { js.Global().Call("clearImmediate", asked) }
		return t
	}
	channel := js.Global().Get("MessageChannel").New()
	from, to := channel.Get("port1"), channel.Get("port2")
	to.Set("onmessage", t.await)
	t.ask = func() { from.Call("postMessage", js.Null()) }
	t.forget = func() {
		to.Set("onmessage", js.Null())
		to.Call("close")
	}
	return t
}

// release releases everything.
func (t *turns) release() {
	t.forget()
	t.await.Release()
}

// awaitTurn waits until the event loop has turned, and reports whether the WebSocket ended before.
func (s *Socket) awaitTurn() (over bool) {
	turned := s.askForTurn()
	select {
	case <-turned:
		return false
	case <-s.ended:
		return true
	}
}

// askForTurn returns a channel that has a value once the event loop has turned, unless the WebSocket has ended.
func (s *Socket) askForTurn() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return nil
	}
	if s.turns == nil {
		s.turns = newTurns()
	}
	s.turns.ask()
	return s.turns.turned
}
