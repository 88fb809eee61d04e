package browser

import (
	"syscall/js"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// madeUp is a Socket over an object that looks like a browser's WebSocket, and holds all that it is to send.
func madeUp(t *testing.T) (s *Socket, ws js.Value, calls map[string]int) {
	t.Helper()
	calls = make(map[string]int)
	object := js.Global().Get("Object") // a text has no length that Go asks for
	ws = js.ValueOf(map[string]any{"bufferedAmount": 0, "readyState": stateOpen})
	for _, name := range []string{"send", "close"} {
		f := js.FuncOf(func(_ js.Value, args []js.Value) any {
			calls[name]++
			if name == "send" {
				ws.Set("bufferedAmount", ws.Get("bufferedAmount").Int()+object.Invoke(args[0]).Length())
			}
			return nil
		})
		t.Cleanup(f.Release)
		ws.Set(name, f)
	}
	s = &Socket{ws: ws, sendMost: 100, arrived: make(chan struct{}, 1), ended: make(chan struct{})}
	s.Serve(Hooks{
		Progress: func() { calls["progress"]++ },
		Closing: func(code uint16) uint16 {
			calls["closing"]++
			return code
		},
	})
	return s, ws, calls
}

func TestTryWriteLeavesACloseFrame(t *testing.T) {
	s, ws, calls := madeUp(t)
	closing := []byte{fin | opClose, 2, 1000 >> 8, 1000 & 0xff}
	n, err := s.TryWrite(append([]byte{fin | opText, 1, 'a'}, closing...))
	require.NoError(t, err)
	require.Equal(t, 3, n, "what is ahead of it is sent")
	require.Equal(t, map[string]int{"send": 1}, calls)

	n, err = s.Write(closing[:1])
	require.NoError(t, err)
	require.Equal(t, 1, n)
	n, err = s.TryWrite(closing[1:])
	require.NoError(t, err)
	require.Zero(t, n, "the rest of it neither: the browser may hold messages, which a closing waits for")
	ws.Set("bufferedAmount", 0) // which Write would wait for
	n, err = s.Write(closing[1:])
	require.NoError(t, err)
	require.Equal(t, len(closing)-1, n)
	require.Equal(t, map[string]int{"send": 1, "progress": 1, "closing": 1, "close": 1}, calls)
}

func TestTryWriteLeavesWhatTheBrowserHasNoRoomFor(t *testing.T) {
	s, ws, calls := madeUp(t)
	message := append([]byte{fin | opBinary, 60}, make([]byte, 60)...)
	for range 2 {
		n, err := s.TryWrite(message)
		require.NoError(t, err)
		require.Equal(t, len(message), n)
	}
	n, err := s.TryWrite(message)
	require.NoError(t, err)
	require.Zero(t, n)
	ws.Set("bufferedAmount", 100)
	n, err = s.TryWrite(append(message, message...))
	require.NoError(t, err)
	require.Equal(t, len(message), n, "one more, and then it holds too much")
	require.Equal(t, map[string]int{"send": 3, "progress": 1}, calls)
}

// Write waits while the browser holds too much, and no longer.
func TestWriteWaitsForTheBrowser(t *testing.T) {
	s, ws, calls := madeUp(t)
	message := append([]byte{fin | opBinary, 60}, make([]byte, 60)...)
	wrote := make(chan int, 1)
	write := func() {
		n, err := s.Write(message)
		if err != nil {
			n = -1
		}
		wrote <- n
	}
	for range 2 {
		write()
		require.Equal(t, len(message), <-wrote)
	}
	go write()
	for _, held := range []int{120, 101} {
		ws.Set("bufferedAmount", held)
		time.Sleep(3 * pauseMost)
		require.Empty(t, wrote, "the browser holds %d", held)
	}
	ws.Set("bufferedAmount", 100)
	require.Equal(t, len(message), <-wrote)
	require.Equal(t, 3, calls["send"])
}
