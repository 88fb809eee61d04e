// page_js.go is the page as the program sees it: its log, its form, and its graph.

package main

import (
	"fmt"
	"strings"
	"syscall/js"
	"time"
)

// logMost is how many lines the log keeps.
const logMost = 200

var document = js.Global().Get("document")

func byID(id string) js.Value { return document.Call("getElementById", id) }

func showState(state string) {
	byID("state").Set("textContent", state)
	byID("state").Set("className", state)
	byID("say").Set("disabled", state != "open")
}

func logLine(kind, mark, text string) {
	line := document.Call("createElement", "li")
	line.Set("className", kind)
	for _, part := range [...][2]string{{"b", mark}, {"p", text}} {
		element := document.Call("createElement", part[0])
		element.Set("textContent", part[1])
		line.Call("append", element)
	}
	log := byID("log")
	log.Call("append", line)
	if log.Get("childElementCount").Int() > logMost {
		log.Get("firstElementChild").Call("remove")
	}
	follow()
}

// following is whether the log shows its newest line, as it does unless its reader has scrolled up.
var following = true

func follow() {
	if log := byID("log"); following {
		log.Set("scrollTop", log.Get("scrollHeight"))
	}
}

// keepFollowing follows the newest line on a screen that changes, until the reader scrolls up.
func keepFollowing() {
	log := byID("log")
	log.Call("addEventListener", "scroll", js.FuncOf(func(js.Value, []js.Value) any {
		const near = 40 // pixels
		following = log.Get("scrollHeight").Int()-log.Get("scrollTop").Int()-log.Get("clientHeight").Int() < near
		return nil
	}))
	resized := js.FuncOf(func(js.Value, []js.Value) any {
		follow()
		return nil
	})
	js.Global().Get("ResizeObserver").New(resized).Call("observe", log)
}

// onSubmit has said called with what the form says. Text that it does not take stays.
func onSubmit(said func(text string) bool) {
	byID("compose").Call("addEventListener", "submit", js.FuncOf(func(_ js.Value, args []js.Value) any {
		args[0].Call("preventDefault")
		text := byID("text")
		if value := text.Get("value").String(); value != "" && said(value) {
			text.Set("value", "")
		}
		return nil
	}))
}

// graph shows the last round trips.
var graph trips

// trips are round trips, oldest first; a negative one is a gap.
type trips struct{ last []time.Duration }

const (
	tripsMost   = 120 // as many as the graph shows
	graphHeight = 100 // of the graph's own units, as is its width, which is tripsMost
)

func (g *trips) add(took time.Duration) {
	g.last = append(g.last, took)
	g.draw()
	byID("last-trip").Set("textContent", milliseconds(took))
}

func (g *trips) gap() {
	g.last = append(g.last, -1)
	g.draw()
	byID("last-trip").Set("textContent", "–")
}

func (g *trips) draw() {
	g.last = g.last[max(0, len(g.last)-tripsMost):]
	var longest, sum time.Duration
	n := 0
	for _, took := range g.last {
		if took >= 0 {
			longest, sum, n = max(longest, took), sum+took, n+1
		}
	}
	var path strings.Builder
	command := "M"
	for i, took := range g.last {
		if took < 0 {
			command = "M"
			continue
		}
		y := graphHeight - float64(took)/float64(max(longest, 1))*graphHeight*0.92
		fmt.Fprintf(&path, "%s%d %.1f", command, tripsMost-len(g.last)+i, y)
		command = "L"
	}
	byID("line").Call("setAttribute", "d", path.String())
	if n > 0 {
		byID("mean-trip").Set("textContent", milliseconds(sum/time.Duration(n)))
		byID("longest-trip").Set("textContent", milliseconds(longest))
	}
}

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
}
