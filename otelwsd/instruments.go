// instruments.go has the metrics: their names, units and descriptions, and what they are set to.

package otelwsd

import (
	"context"
	"errors"
	"slices"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/seed62836080/wsd"
)

// The buckets of histograms, in seconds.
var (
	connectionBuckets = []float64{0.1, 1, 10, 60, 300, 900, 1800, 3600, 4 * 3600, 12 * 3600, 24 * 3600, 7 * 24 * 3600}
	roundTripBuckets  = []float64{0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20}
	stallBuckets      = []float64{0.0001, 0.001, 0.01, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60}
)

// instruments are the metrics of one role. What a message changes is counted in counts, and read when metrics are collected.
type instruments struct {
	connections, messages, bytes, wire, dropped, pings, overflows metric.Int64ObservableCounter
	active, stalled                                               metric.Int64ObservableUpDownCounter

	// Of servers only, from their Stats.
	writes, coalesced, limited, failedHandlers metric.Int64ObservableCounter
	queued                                     metric.Int64ObservableUpDownCounter
	queueAge                                   metric.Float64ObservableGauge

	duration, roundTrip, stall metric.Float64Histogram
	refusedHandshakes          metric.Int64Counter // of servers only

	base     []attribute.KeyValue
	recorded []metric.RecordOption // of what has no other attributes than base
	observed []metric.ObserveOption
	byType   [typeCount][]metric.ObserveOption
	flows    [directionCount][typeCount][]metric.ObserveOption
}

// create makes the instruments of a role.
func (i *instruments) create(meter metric.Meter, role wsd.Role, base []attribute.KeyValue) error {
	m := maker{meter: meter, prefix: "websocket." + role.String() + "."}
	i.connections = m.counter("connections", "{connection}", "Connections that were opened.")
	i.active = m.upDown("active_connections", "{connection}", "Connections that are open.")
	i.stalled = m.upDown("stalled_connections", "{connection}", "Connections whose reader waits for its consumer.")
	i.messages = m.counter("messages", "{message}", "Messages.")
	i.bytes = m.counter("io", "By", "Bytes of messages, uncompressed.")
	i.wire = m.counter("wire.io", "By", "Bytes of messages as they went over the network, compressed if they were, without frame headers.")
	i.dropped = m.counter("dropped_messages", "{message}", "Received messages that were discarded.")
	i.pings = m.counter("received_pings", "{ping}", "Pings from peers.")
	i.overflows = m.counter("queue.overflows", "{overflow}", "Sends that found the queue full.")
	i.duration = m.histogram("connection.duration", "How long connections were open, by how they ended.", connectionBuckets)
	i.roundTrip = m.histogram("ping.duration", "Time between a ping and its pong.", roundTripBuckets)
	i.stall = m.histogram("stall.duration", "How long messages waited for a consumer that let Messages fill up.", stallBuckets)
	if role == wsd.ServerRole {
		i.writes = m.counter("writes", "{write}", "Writes to the transport.")
		i.coalesced = m.counter("coalesced_pongs", "{pong}", "Pings without a pong of their own, since the peer does not read.")
		i.limited = m.counter("limited_handshakes", "{handshake}", "Handshakes that were refused because of limits.")
		i.failedHandlers = m.counter("failed_handlers", "{handler}", "Handlers that panicked.")
		i.queued = m.upDown("queue.size", "By", "Bytes that wait to be written.")
		i.queueAge = m.gauge("queue.age", "How long the oldest byte has been waiting to be written.")
		i.refusedHandshakes = m.immediate("refused_handshakes", "{handshake}", "Handshakes that failed, by the status of the answer.")
	}
	i.prepare(base)
	return m.err
}

// prepare makes the sets of attributes.
func (i *instruments) prepare(base []attribute.KeyValue) {
	i.base = base
	with := func(more ...attribute.KeyValue) metric.MeasurementOption {
		return metric.WithAttributeSet(attribute.NewSet(append(slices.Clone(base), more...)...))
	}
	i.recorded = []metric.RecordOption{with()}
	i.observed = []metric.ObserveOption{with()}
	for t, name := range [typeCount]string{text: wsd.TextMessage.String(), binary: wsd.BinaryMessage.String()} {
		i.byType[t] = []metric.ObserveOption{with(keyMessageType.String(name))}
		for d, way := range [directionCount]attribute.KeyValue{received: semconv.NetworkIODirectionReceive, sent: semconv.NetworkIODirectionTransmit} {
			i.flows[d][t] = []metric.ObserveOption{with(keyMessageType.String(name), way)}
		}
	}
}

// observables are the instruments that collect sets.
func (i *instruments) observables() []metric.Observable {
	all := []metric.Observable{
		i.connections, i.active, i.stalled, i.messages, i.bytes, i.wire, i.dropped, i.pings, i.overflows,
	}
	if i.queued != nil {
		all = append(all, i.writes, i.coalesced, i.limited, i.failedHandlers, i.queued, i.queueAge)
	}
	return all
}

// collect is called whenever somebody reads the metrics.
func (t *Telemetry) collect(_ context.Context, to metric.Observer) error {
	i, all := &t.instruments, t.counts.sum()
	to.ObserveInt64(i.connections, all.opened, i.observed...)
	to.ObserveInt64(i.active, all.active, i.observed...)
	to.ObserveInt64(i.stalled, all.stalled, i.observed...)
	to.ObserveInt64(i.pings, all.pings, i.observed...)
	to.ObserveInt64(i.overflows, all.overflows, i.observed...)
	for kind := range typeCount {
		to.ObserveInt64(i.dropped, all.dropped[kind], i.byType[kind]...)
		for way := range directionCount {
			to.ObserveInt64(i.messages, all.messages[way][kind], i.flows[way][kind]...)
			to.ObserveInt64(i.bytes, all.bytes[way][kind], i.flows[way][kind]...)
			to.ObserveInt64(i.wire, all.wire[way][kind], i.flows[way][kind]...)
		}
	}
	t.mu.Lock()
	servers := slices.Clone(t.servers)
	t.mu.Unlock()
	if len(servers) > 0 {
		i.collectServers(servers, to)
	}
	return nil
}

// collectServers observes the Stats of servers.
func (i *instruments) collectServers(servers []*wsd.Server, to metric.Observer) {
	var all wsd.ServerStats
	var age time.Duration
	for _, server := range servers {
		stats := server.Stats()
		all.Writes += stats.Writes
		all.PongsCoalesced += stats.PongsCoalesced
		all.Limited += stats.Limited
		all.Failed += stats.Failed
		all.QueuedBytes += stats.QueuedBytes
		if oldest := stats.OldestQueued; !oldest.IsZero() {
			age = max(age, time.Since(oldest))
		}
	}
	to.ObserveInt64(i.writes, int64(all.Writes), i.observed...)
	to.ObserveInt64(i.coalesced, int64(all.PongsCoalesced), i.observed...)
	to.ObserveInt64(i.limited, int64(all.Limited), i.observed...)
	to.ObserveInt64(i.failedHandlers, int64(all.Failed), i.observed...)
	to.ObserveInt64(i.queued, int64(all.QueuedBytes), i.observed...)
	to.ObserveFloat64(i.queueAge, age.Seconds(), i.observed...)
}

// ended records the end of a connection.
func (i *instruments) ended(ctx context.Context, after time.Duration, code, initiator, failure string) {
	attributes := append(slices.Clone(i.base), keyCloseCode.String(code), keyCloseInitiator.String(initiator))
	if failure != "" {
		attributes = append(attributes, semconv.ErrorTypeKey.String(failure))
	}
	i.duration.Record(ctx, after.Seconds(), metric.WithAttributeSet(attribute.NewSet(attributes...)))
}

// refused counts a handshake that failed. The status is 0 if there was no answer.
func (i *instruments) refused(ctx context.Context, status int) {
	if i.refusedHandshakes == nil {
		return // a client's
	}
	attributes := slices.Clone(i.base)
	if status != 0 {
		attributes = append(attributes, semconv.HTTPResponseStatusCode(status))
	}
	i.refusedHandshakes.Add(ctx, 1, metric.WithAttributeSet(attribute.NewSet(attributes...)))
}

// maker makes instruments, and keeps what went wrong.
type maker struct {
	meter  metric.Meter
	prefix string
	err    error
}

func (m *maker) counter(name, unit, description string) metric.Int64ObservableCounter {
	made, err := m.meter.Int64ObservableCounter(m.prefix+name, metric.WithUnit(unit), metric.WithDescription(description))
	m.err = errors.Join(m.err, err)
	return made
}

func (m *maker) upDown(name, unit, description string) metric.Int64ObservableUpDownCounter {
	made, err := m.meter.Int64ObservableUpDownCounter(m.prefix+name, metric.WithUnit(unit), metric.WithDescription(description))
	m.err = errors.Join(m.err, err)
	return made
}

func (m *maker) gauge(name, description string) metric.Float64ObservableGauge {
	made, err := m.meter.Float64ObservableGauge(m.prefix+name, metric.WithUnit("s"), metric.WithDescription(description))
	m.err = errors.Join(m.err, err)
	return made
}

func (m *maker) immediate(name, unit, description string) metric.Int64Counter {
	made, err := m.meter.Int64Counter(m.prefix+name, metric.WithUnit(unit), metric.WithDescription(description))
	m.err = errors.Join(m.err, err)
	return made
}

func (m *maker) histogram(name, description string, buckets []float64) metric.Float64Histogram {
	made, err := m.meter.Float64Histogram(m.prefix+name, metric.WithUnit("s"), metric.WithDescription(description),
		metric.WithExplicitBucketBoundaries(buckets...))
	m.err = errors.Join(m.err, err)
	return made
}
