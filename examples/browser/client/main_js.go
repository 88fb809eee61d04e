// Client is the program of the page: two connections that come back by themselves, each in a goroutine of its own, as
// anywhere in Go.
package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"syscall/js"
	"time"

	"github.com/seed62836080/wsd"
)

const (
	// every is the time between two echoes of the graph.
	every = 500 * time.Millisecond
	// retryMost is the longest pause between two attempts to connect.
	retryMost = 3 * time.Second
)

func main() {
	said := make(chan string, 1)
	onSubmit(func(text string) bool {
		select {
		case said <- text:
			return true
		default:
			return false // the last one is still on its way
		}
	})
	keepFollowing()
	base := js.Global().Get("location").Get("origin").String()
	go measure(base + "/echo")
	talk(base+"/room", said)
}

// measure sends a text to the echo again and again, and draws how long each takes.
func measure(url string) {
	ctx := context.Background()
	for conn, err := range wsd.Redial(ctx, url, &wsd.RedialOptions{MaxBackoff: retryMost}) {
		if err != nil {
			continue // the room says so
		}
		tick := time.NewTicker(every)
		for trip := (roundTrip{}); ; {
			select {
			case <-tick.C:
				if trip.begin(); conn.TrySend(wsd.Text(strconv.Itoa(trip.number))) != nil {
					trip.waits = false
				}
			case msg, open := <-conn.Messages():
				if open {
					trip.end(string(msg.Data))
					continue
				}
			}
			if conn.State() != wsd.StateOpen {
				break
			}
		}
		tick.Stop()
		graph.gap()
	}
}

// roundTrip is an echo on its way.
type roundTrip struct {
	number int
	waits  bool
	begun  time.Time
}

func (r *roundTrip) begin() {
	r.number++
	r.waits, r.begun = true, time.Now()
}

func (r *roundTrip) end(text string) {
	if r.waits && text == strconv.Itoa(r.number) {
		r.waits = false
		graph.add(time.Since(r.begun))
	}
}

// talk shows what is said in the room, and says what the page is told to.
func talk(url string, said <-chan string) {
	ctx := context.Background()
	for conn, err := range wsd.Redial(ctx, url, &wsd.RedialOptions{MaxBackoff: retryMost}) {
		var failed *wsd.RedialError
		if errors.As(err, &failed) {
			showState("reconnecting")
			logLine("error", "✕", failed.Error())
			continue
		}
		showState("open")
		logLine("event", "•", "connected to "+conn.RemoteAddr().String())
		stay(conn, said)
		showState("reconnecting")
		logLine("event", "•", fmt.Sprintf("closed: %v", conn.CloseEvent().Err))
	}
}

// stay is the loop of a connection: what comes, what is to be sent, and the end, in one select.
func stay(conn *wsd.Conn, said <-chan string) {
	for {
		select {
		case msg, open := <-conn.Messages():
			if !open {
				<-conn.Closed()
				return
			}
			logLine("received", "←", string(msg.Data))
		case text := <-said:
			if err := conn.Send(conn.Context(), wsd.Text(text)); err != nil {
				logLine("error", "✕", err.Error())
			}
		}
	}
}
