// telemetry.go is what programs see: what is to be told to whom, and what to put where in a wsd.Config or a wsd.Server.

package otelwsd

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/seed62836080/wsd"
)

// ScopeName is the name of the instrumentation scope of all metrics and spans.
const ScopeName = "github.com/seed62836080/wsd/otelwsd"

// Options say where metrics and spans go. The zero value is a good default.
type Options struct {
	// TracerProvider makes the spans. Default otel.GetTracerProvider().
	TracerProvider trace.TracerProvider
	// MeterProvider makes the instruments. Default otel.GetMeterProvider().
	MeterProvider metric.MeterProvider
	// Propagator finds the client's span in the header of a request whose context has none, and writes it for Inject.
	// Default otel.GetTextMapPropagator().
	Propagator propagation.TextMapPropagator
	// Attributes are on every metric and span: what tells the connections of one Telemetry from those of another, such as
	// the endpoint.
	Attributes []attribute.KeyValue
	// CloseCodes are the codes from 3000 on that metrics tell apart. They count all others as "3xxx" and "4xxx", since a
	// peer may send any.
	CloseCodes []wsd.StatusCode
	// ChildSpans makes a connection's span a child of the request's. Default: it begins a trace of its own, which is
	// linked to the request's span, because a connection may live for days and most backends expect traces to be short.
	ChildSpans bool
	// SpanEvents bounds the events of a connection's span. Default 64; negative means none.
	SpanEvents int
}

// defaultSpanEvents is half of what the SDK keeps of a span's events by default.
const defaultSpanEvents = 64

// Telemetry counts what happens on the connections of one role, and has a span for each of them. It is safe for concurrent
// use.
type Telemetry struct {
	role        wsd.Role
	tracer      trace.Tracer
	propagator  propagation.TextMapPropagator
	attributes  []attribute.KeyValue
	codes       []wsd.StatusCode
	childSpans  bool
	spanEvents  int
	epoch       time.Time
	trace       *wsd.Trace
	counts      counts
	instruments instruments

	mu           sync.Mutex
	servers      []*wsd.Server       // guarded by mu
	registration metric.Registration // set by New
}

// New returns a Telemetry for the connections of servers or for those of clients. A nil opts means the defaults. The error
// is the MeterProvider's.
func New(role wsd.Role, opts *Options) (*Telemetry, error) {
	if opts == nil {
		opts = new(Options)
	}
	t := &Telemetry{
		role:       role,
		propagator: opts.Propagator,
		attributes: slices.Clone(opts.Attributes),
		codes:      slices.Clone(opts.CloseCodes),
		childSpans: opts.ChildSpans,
		spanEvents: opts.SpanEvents,
		epoch:      time.Now(),
		counts:     newCounts(),
	}
	if t.spanEvents == 0 {
		t.spanEvents = defaultSpanEvents
	}
	tracers, meters := opts.TracerProvider, opts.MeterProvider
	if tracers == nil {
		tracers = otel.GetTracerProvider()
	}
	if meters == nil {
		meters = otel.GetMeterProvider()
	}
	t.tracer = tracers.Tracer(ScopeName, trace.WithSchemaURL(semconv.SchemaURL))
	meter := meters.Meter(ScopeName, metric.WithSchemaURL(semconv.SchemaURL))
	if err := t.instruments.create(meter, role, t.attributes); err != nil {
		return nil, err
	}
	registration, err := meter.RegisterCallback(t.collect, t.instruments.observables()...)
	if err != nil {
		return nil, err
	}
	t.registration = registration
	t.trace = t.newTrace()
	return t, nil
}

// Trace returns what to put into the Config of connections. Together with another, by wsd.MultiTrace, it should be the
// first, because a hook that panics keeps the others from learning of it.
func (t *Telemetry) Trace() *wsd.Trace { return t.trace }

// Watch puts the Trace and Refused into a server, beside those that it has, and includes its Stats in the metrics. It has to
// be called before the server serves. AcceptOptions that are given to Serve or Accept need the Trace and Refused themselves.
func (t *Telemetry) Watch(ws *wsd.Server) error {
	if t.role != wsd.ServerRole {
		return errors.New("otelwsd: a Telemetry for clients cannot watch a server")
	}
	ws.Trace = wsd.MultiTrace(t.trace, ws.Trace)
	if also := ws.Refused; also != nil {
		ws.Refused = func(r *http.Request, refused *wsd.HandshakeError) {
			t.Refused(r, refused)
			also(r, refused)
		}
	} else {
		ws.Refused = t.Refused
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.servers = append(t.servers, ws)
	return nil
}

// Refused counts a handshake that failed, and notes it in the request's span: it is for AcceptOptions.Refused.
func (t *Telemetry) Refused(r *http.Request, refused *wsd.HandshakeError) {
	t.instruments.refused(r.Context(), refused.StatusCode)
	if span := trace.SpanFromContext(r.Context()); span.IsRecording() {
		span.AddEvent(eventRefused, trace.WithAttributes(semconv.ExceptionMessage(refused.Error())))
	}
}

// Inject writes the span of ctx into the header of a handshake, so that the server's span is linked to it. opts.Header is
// replaced, not changed. For Redial, it belongs into RedialOptions.Prepare.
func (t *Telemetry) Inject(ctx context.Context, opts *wsd.DialOptions) {
	header := opts.Header.Clone()
	if header == nil {
		header = make(http.Header)
	}
	t.propagation().Inject(ctx, propagation.HeaderCarrier(header))
	opts.Header = header
}

// Span returns the span of a connection, to which a program may add attributes and events, or link what it does for a
// message. If there is none, because it is not sampled or has ended, the returned span does nothing.
func (t *Telemetry) Span(c *wsd.Conn) trace.Span {
	if span := t.counts.of(c).span(c); span != nil {
		return span
	}
	return trace.SpanFromContext(context.Background())
}

// Unregister takes what is counted out of the MeterProvider, and forgets the servers. Connections that are open go on, and
// end their spans.
func (t *Telemetry) Unregister() error {
	t.mu.Lock()
	t.servers = nil
	t.mu.Unlock()
	return t.registration.Unregister()
}

// propagation returns the propagator, which may be set globally later than New is called.
func (t *Telemetry) propagation() propagation.TextMapPropagator {
	if t.propagator != nil {
		return t.propagator
	}
	return otel.GetTextMapPropagator()
}
