// hooks.go is the Trace: what is done when something happens on a connection.

package otelwsd

import (
	"context"
	"errors"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/seed62836080/wsd"
)

func (t *Telemetry) newTrace() *wsd.Trace {
	return &wsd.Trace{
		Opened: t.opened,
		MessageReceived: func(c *wsd.Conn, m wsd.MessageInfo) {
			t.counts.of(c).messages[received].of[indexOf(m.Type)].add(m)
		},
		MessageSent: func(c *wsd.Conn, m wsd.MessageInfo) {
			t.counts.of(c).messages[sent].of[indexOf(m.Type)].add(m)
		},
		MessageDropped: t.dropped,
		QueueFull:      t.queueFull,
		PingReceived:   func(c *wsd.Conn, _ []byte) { t.counts.of(c).pings.Add(1) },
		RoundTrip: func(_ *wsd.Conn, d time.Duration) {
			t.instruments.roundTrip.Record(context.Background(), d.Seconds(), t.instruments.recorded...)
		},
		StallBegun: t.stallBegun,
		StallEnded: t.stallEnded,
		Ended:      t.ended,
	}
}

func (t *Telemetry) opened(c *wsd.Conn, info wsd.OpenedInfo) {
	t.counts.of(c).open(c, &connection{opened: time.Since(t.epoch), span: t.begin(c, info)})
}

func (t *Telemetry) dropped(c *wsd.Conn, m wsd.MessageInfo) {
	shard := t.counts.of(c)
	shard.dropped[indexOf(m.Type)].Add(1)
	if span := shard.event(c, t.spanEvents); span != nil {
		span.AddEvent(eventDropped, trace.WithAttributes(keyMessageType.String(m.Type.String()), keyMessageSize.Int(m.Size)))
	}
}

func (t *Telemetry) queueFull(c *wsd.Conn) {
	shard := t.counts.of(c)
	shard.overflows.Add(1)
	if span := shard.event(c, t.spanEvents); span != nil {
		span.AddEvent(eventQueueFull)
	}
}

func (t *Telemetry) stallBegun(c *wsd.Conn) {
	shard := t.counts.of(c)
	shard.stall(c, true)
	if span := shard.event(c, t.spanEvents); span != nil {
		span.AddEvent(eventStallBegun)
	}
}

func (t *Telemetry) stallEnded(c *wsd.Conn, d time.Duration) {
	t.instruments.stall.Record(context.Background(), d.Seconds(), t.instruments.recorded...)
	shard := t.counts.of(c)
	shard.stall(c, false)
	if span := shard.event(c, t.spanEvents); span != nil {
		span.AddEvent(eventStallEnded, trace.WithAttributes(keyStallDuration.Float64(d.Seconds())))
	}
}

func (t *Telemetry) ended(c *wsd.Conn, event wsd.CloseEvent) {
	conn := t.counts.of(c).end(c)
	if conn == nil {
		return // another hook panicked before Opened came here
	}
	ctx := context.Background()
	if conn.span != nil {
		ctx = trace.ContextWithSpan(ctx, conn.span) // an example of what is in the histogram
	}
	t.instruments.ended(ctx, time.Since(t.epoch)-conn.opened, t.closeCode(event.Code), initiator(event), failure(event))
	t.end(c, conn, event)
}

// closeCode returns a code as metrics have it: peers can send any of 2,000.
func (t *Telemetry) closeCode(code wsd.StatusCode) string {
	if code >= 3000 && code != wsd.StatusUnauthorized {
		for _, own := range t.codes {
			if code == own {
				return strconv.Itoa(int(code))
			}
		}
		return strconv.Itoa(int(code/1000)) + "xxx"
	}
	return strconv.Itoa(int(code))
}

// initiator says which side began the end.
func initiator(event wsd.CloseEvent) string {
	if event.Local {
		return "local"
	}
	return "peer"
}

// timeouts are the causes of an end that say more than its code.
var timeouts = []struct {
	cause error
	name  string
}{
	{wsd.ErrPongTimeout, "pong_timeout"},
	{wsd.ErrWriteTimeout, "write_timeout"},
	{wsd.ErrCloseTimeout, "close_timeout"},
	{wsd.ErrSlowConsumer, "slow_consumer"},
	{wsd.ErrBodyTimeout, "body_timeout"},
}

// failure returns what went wrong, as the attribute error.type has it; empty if nothing did.
func failure(event wsd.CloseEvent) string {
	for _, timeout := range timeouts {
		if errors.Is(event.Err, timeout.cause) {
			return timeout.name
		}
	}
	switch event.Code {
	case wsd.StatusNormalClosure, wsd.StatusGoingAway, wsd.StatusNoStatus, wsd.StatusServiceRestart:
		return ""
	case wsd.StatusAbnormalClosure:
		if event.Local {
			return "" // by CloseNow, or a Shutdown that was given up
		}
	}
	if event.Code >= 3000 {
		return "" // what it means is up to the application
	}
	return strconv.Itoa(int(event.Code))
}
