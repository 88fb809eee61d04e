//go:build linux

package main

// This file lists the workloads: what each measures, in which cases, and what its tables show.

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// metric is a column of the tables.
type metric struct {
	name   string
	format string
	scale  float64 // what a reading is divided by for the format
}

// The metrics. A reading holds a second's work, microseconds of CPU, nanoseconds of time, bytes of memory.
var (
	rateMetric = metric{"messages/s", "%.0f", 1}
	cpuMetric  = metric{"CPU µs/message", "%.2f", 1}
	p50Metric  = metric{"p50 µs", "%.1f", 1e3}
	p99Metric  = metric{"p99 µs", "%.0f", 1e3}
	p999Metric = metric{"p99.9 µs", "%.0f", 1e3}
	byteMetric = metric{"MiB/s", "%.0f", 1 << 20}
	memMetric  = metric{"KiB/connection", "%.2f", 1 << 10}
)

// named is the metric under another name, where a table counts something else than messages.
func (m metric) named(name string) metric {
	m.name = name
	return m
}

// reading is what one measurement gave, by the metrics' keys.
type reading map[string]float64

// The keys of readings.
const (
	rateKey   = "rate"
	cpuKey    = "cpu"
	p50Key    = "p50"
	p99Key    = "p99"
	p999Key   = "p999"
	bytesKey  = "bytes"
	memoryKey = "memory"
)

// column is a metric and the key of the readings it shows.
type column struct {
	metric
	key string
}

var (
	timeColumns = []column{
		{rateMetric, rateKey}, {cpuMetric, cpuKey}, {p50Metric, p50Key}, {p99Metric, p99Key}, {p999Metric, p999Key},
	}
	largeColumns     = append([]column{{byteMetric, bytesKey}}, timeColumns...)
	memoryColumns    = []column{{memMetric, memoryKey}}
	broadcastColumns = []column{
		{rateMetric.named("deliveries/s"), rateKey}, {cpuMetric.named("CPU µs/delivery"), cpuKey},
		{p50Metric, p50Key}, {p99Metric, p99Key}, {p999Metric, p999Key},
	}
	handshakeColumns = []column{
		{rateMetric.named("handshakes/s"), rateKey}, {cpuMetric.named("CPU µs/handshake"), cpuKey},
		{p50Metric, p50Key}, {p99Metric, p99Key}, {p999Metric, p999Key},
	}
)

// read turns a sample of messages of one size, in bytes, into a reading.
func (s sample) read(size int) reading {
	return reading{
		rateKey: s.rate(), cpuKey: s.cpuEach(), bytesKey: s.rate() * float64(size),
		p50Key: float64(s.P50), p99Key: float64(s.P99), p999Key: float64(s.P999),
	}
}

// settings are what the flags say about how long and how much to measure.
type settings struct {
	quick    bool
	rounds   int
	warmup   time.Duration
	duration time.Duration
	idle     time.Duration // how long connections have been idle when their memory is measured
	files    uint64        // the limit of open files
}

// workload is what is measured in several cases, and how it is shown.
type workload struct {
	name    string
	title   string
	about   string
	columns []column
	chart   string // the key that its chart shows, "" for none
	cases   []benchCase

	oneScale bool // the cases are one thing growing, so its chart has one scale for all
}

// benchCase is one row for each library.
type benchCase struct {
	name  string
	quick bool // measured in a quick run as well
	role  role
	run   func(library, settings) (reading, error)
}

// fileMargin is how many open files a process has beside its connections, at most.
const fileMargin = 200

// withServer runs a measurement against a library's server and ends the server.
func withServer(lib string, r role, measure func(*process) error) error {
	r.Library = lib
	if r.Pinned {
		unpin, err := pin()
		if err != nil {
			return err
		}
		defer unpin()
	}
	server, err := start(r)
	if err != nil {
		return err
	}
	defer server.stop()
	return measure(server)
}

// onOneProcessor is what the names of cases end with for which client and server are kept to one processor, see pin.
const onOneProcessor = ", on one processor"

func pinned(name string) bool { return strings.HasSuffix(name, onOneProcessor) }

// settling is how long a case takes at the least until what is measured stays as it is. Where two processes with one message
// between them end up is open for a second or two: while something else still keeps a processor busy, they share the other,
// and a round trip takes a third of what it takes afterwards.
func settling(name string) time.Duration {
	if name == lonelyCase || name == lonelyKiBCase {
		return 2 * time.Second
	}
	return 0
}

// echoCase measures an echo over plain TCP.
func echoCase(quick bool, name string, conns, inflight, size int) benchCase {
	return echoOf(quick, name, role{Work: serveEcho, Pinned: pinned(name)}, conns, inflight, size)
}

// echoOf measures an echo over plain TCP by servers in a role.
func echoOf(quick bool, name string, r role, conns, inflight, size int) benchCase {
	return benchCase{name: name, quick: quick, role: r,
		run: func(lib library, set settings) (result reading, err error) {
			if uint64(conns)+fileMargin > set.files {
				return nil, skipped(fmt.Sprintf("needs a limit of open files above %d, it is %d", conns+fileMargin, set.files))
			}
			err = withServer(lib.name, r, func(server *process) error {
				l := load{conns, inflight, binaryScript(size), set.warmup, set.duration, server.cpu}
				t := target{port: server.port, path: "/"}
				if lib.name == rawName {
					t.raw, l.script = true, l.script.unspoken()
				}
				l.warmup = max(l.warmup, settling(name))
				if size > 4<<20 || conns > 5000 {
					// So that more than a handful of round trips are seen on each connection.
					l.warmup, l.duration = 3*l.warmup, 2*l.duration
				}
				s, err := l.run(t)
				result = s.read(size)
				return err
			})
			return result, err
		}}
}

// tlsCase measures an echo over TLS.
func tlsCase(quick bool, name string, conns, inflight, size int) benchCase {
	r := role{Work: serveEcho, TLS: true}
	return benchCase{name: name, quick: quick, role: r,
		run: func(lib library, set settings) (result reading, err error) {
			err = withServer(lib.name, r, func(server *process) error {
				l := load{conns, inflight, binaryScript(size), set.warmup, set.duration, server.cpu}
				t := target{port: server.port, path: "/", tls: true}
				if lib.name == rawName {
					t.raw, l.script = true, l.script.unspoken()
				}
				s, err := l.runTLS(t)
				result = s.read(size)
				return err
			})
			return result, err
		}}
}

// offer is what the client offers for compression. Where the role does not say otherwise, windows are left alone, so
// they are of 32 KiB for all.
func offer(r role) string {
	switch {
	case r.Window > 0:
		return "permessage-deflate; client_max_window_bits"
	case r.Takeover:
		return "permessage-deflate"
	}
	return "permessage-deflate; client_no_context_takeover; server_no_context_takeover"
}

// deflateCase measures an echo of deflated JSON texts.
func deflateCase(quick bool, name string, r role) benchCase {
	return benchCase{name: name, quick: quick, role: r,
		run: func(lib library, set settings) (result reading, err error) {
			script, err := jsonScript(r.Takeover, r.Window)
			if err != nil {
				return nil, err
			}
			err = withServer(lib.name, r, func(server *process) error {
				l := load{64, 16, script, set.warmup, set.duration, server.cpu}
				s, err := l.run(target{port: server.port, path: "/", offer: offer(r)})
				result = s.read(len(script.want[0]))
				return err
			})
			return result, err
		}}
}

// idleCase measures memory after one echo on each connection, or as many as fill the windows of a compression.
func idleCase(quick bool, name string, conns int, r role) benchCase {
	return benchCase{name: name, quick: quick, role: r,
		run: func(lib library, set settings) (reading, error) {
			r.Library = lib.name
			held, err := idleMemory(r, conns, set)
			return reading{memoryKey: held / float64(conns)}, err
		}}
}

// broadcastCase measures deliveries to many subscribers.
func broadcastCase(quick bool, name string, subscribers, slow, inflight int) benchCase {
	return deliveryCase(quick, name, role{Work: serveBroadcast}, subscribers, slow, inflight, 128)
}

// hubCase is the same by what a library has for topics.
func hubCase(quick bool, name string, subscribers, slow, inflight, size int) benchCase {
	return deliveryCase(quick, name, role{Work: serveHub}, subscribers, slow, inflight, size)
}

// topicsCase has so many topics that each subscriber gets but a part of them, and each topic has five subscribers.
func topicsCase(quick bool, name string, count, subscribers, inflight int) benchCase {
	return deliveryCase(quick, name, role{Work: serveHub, Topics: count, Groups: subscribers / 5}, subscribers, 0, inflight, 128)
}

// latestCase has topics all of which all are subscribed to, and want the newest message of.
func latestCase(quick bool, name string, count, subscribers, slow, inflight int) benchCase {
	return deliveryCase(quick, name, role{Work: serveHub, Topics: count, Latest: true}, subscribers, slow, inflight, 128)
}

// deliveryCase is either. The slow ones read nothing at all of large messages.
func deliveryCase(quick bool, name string, r role, subscribers, slow, inflight, size int) benchCase {
	return benchCase{name: name, quick: quick, role: r,
		run: func(lib library, set settings) (result reading, err error) {
			if uint64(subscribers+slow)+fileMargin > set.files {
				return nil, skipped(fmt.Sprintf("needs a limit of open files above %d, it is %d",
					subscribers+slow+fileMargin, set.files))
			}
			err = withServer(lib.name, r, func(server *process) error {
				l := broadcastLoad{subscribers, slow, size >= 1<<20, inflight, newTopics(r), binaryScript(size), lib.speaks, set.warmup, set.duration, server.cpu}
				if subscribers > 1000 {
					// So that what is under way at once is a small part of what is counted.
					l.warmup, l.duration = 3*l.warmup, 3*l.duration
				}
				if slow > 0 && !set.quick {
					l.warmup += time.Second // the slow ones' buffers fill
				}
				s, err := l.run(server.port)
				result = s.read(size)
				return err
			})
			return result, err
		}}
}

func handshakeCase() benchCase {
	r := role{Work: serveEcho}
	return benchCase{name: handshakeName, quick: true, role: r,
		run: func(lib library, set settings) (result reading, err error) {
			err = withServer(lib.name, r, func(server *process) error {
				s, err := handshakeLoad{8, set.warmup, set.duration, server.cpu}.run(
					target{port: server.port, path: "/", raw: lib.name == rawName})
				result = s.read(0)
				return err
			})
			return result, err
		}}
}

// clientCase measures the library's clients against the raw echo server.
func clientCase(quick bool, name string, conns, inflight, size int) benchCase {
	return benchCase{name: name, quick: quick, role: role{Work: runClient},
		run: func(lib library, set settings) (result reading, err error) {
			err = withServer(rawEchoLibrary.name, role{Work: serveEcho, Pinned: pinned(name)}, func(server *process) error {
				work := clientWork{server.port, conns, inflight, size, max(set.warmup, settling(name)), set.duration}
				client, err := start(role{Library: lib.name, Work: runClient, Client: work, Pinned: pinned(name)})
				if err != nil {
					return err
				}
				defer client.stop()
				var s sample
				if err := json.NewDecoder(client.out).Decode(&s); err != nil {
					return fmt.Errorf("bench: expected the client's sample: %w", err)
				}
				result = s.read(size)
				return nil
			})
			return result, err
		}}
}

// skipped is why a case is not measured at all.
type skipped string

func (s skipped) Error() string { return string(s) }

// reasonSkipped gives the reason where an error is one for leaving a case out.
func reasonSkipped(err error) (string, bool) {
	var s skipped
	ok := errors.As(err, &s)
	return string(s), ok
}

// The cases that the goals name.
const (
	pipelinedCase = "64 connections, 64 in flight, 64 B"
	burstCase     = "64 connections, 16 in flight, 1 KiB"
	singleCase    = "64 connections, 1 in flight, 64 B"
	singleKiBCase = "64 connections, 1 in flight, 1 KiB"
	lonelyCase    = "1 connection, 1 in flight, 64 B"
	lonelyKiBCase = "1 connection, 1 in flight, 1 KiB"
	pinnedCase    = lonelyCase + onOneProcessor
	pinnedKiBCase = lonelyKiBCase + onOneProcessor

	large64KCase = "4 connections, 1 in flight, 64 KiB"
	large1MCase  = "4 connections, 1 in flight, 1 MiB"
	large16MCase = "4 connections, 1 in flight, 16 MiB"

	few64Case      = "500 subscribers, 64 in flight"
	few64SlowCase  = "500 subscribers, 5 slow ones more, 64 in flight"
	many64Case     = "5,000 subscribers, 64 in flight"
	many64SlowCase = "5,000 subscribers, 50 slow ones more, 64 in flight"

	idleCaseName    = "5,000 connections"
	manyIdleCase    = "50,000 connections"
	handshakeName   = "8 at a time, each closed at once"
	noTakeoverCase  = "without context takeover"
	takeoverCase    = "with context takeover"
	smallWindowCase = "with context takeover, the client's window of 4 KiB"

	inboxSuffix         = ", one loop over an Inbox for all"
	idleTakeoverCase    = "1,000 idle connections with context takeover"
	idleNoTakeoverCase  = "1,000 idle connections without context takeover"
	idleSmallWindowCase = "1,000 idle connections with context takeover, the client's window of 4 KiB"
)

// thousands writes a number with commas.
func thousands(n int) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%s,%03d", thousands(n/1000), n%1000)
}

// workloads are all there are. How the greatest numbers of connections are had depends on the limit of open files.
func workloads(files uint64) []workload {
	const manyIdle = 50_000
	spread := ""
	if n := len(shares(manyIdle, files)); n > 1 {
		spread = fmt.Sprintf(" The limit of open files is too low for %s connections to one server: they are spread over %d.",
			thousands(manyIdle), n)
	}
	return []workload{
		{
			name: "echo", title: "Echo", columns: timeColumns, chart: cpuKey,
			about: "Binary messages echoed over plain TCP. In flight: how many messages each connection has sent whose " +
				"echo has not yet come back. On one processor: client and server are pinned to the same one; on two, where " +
				"the kernel puts them matters more than the library.",
			cases: []benchCase{
				echoCase(false, lonelyCase, 1, 1, 64),
				echoCase(false, lonelyKiBCase, 1, 1, 1<<10),
				echoCase(true, pinnedCase, 1, 1, 64),
				echoCase(false, pinnedKiBCase, 1, 1, 1<<10),
				echoCase(false, "1 connection, 64 in flight, 64 B", 1, 64, 64),
				echoCase(false, "1 connection, 64 in flight, 1 KiB", 1, 64, 1<<10),
				echoCase(true, singleCase, 64, 1, 64),
				echoCase(true, singleKiBCase, 64, 1, 1<<10),
				echoCase(true, pipelinedCase, 64, 64, 64),
				echoCase(true, burstCase, 64, 16, 1<<10),
				echoCase(false, "64 connections, 64 in flight, 1 KiB", 64, 64, 1<<10),
			},
		},
		{
			name: "loops", title: "Ways to write an echo", columns: timeColumns, chart: cpuKey,
			about: "The loops that a program can be written with: over Messages with Release and without, over Each, with " +
				"TrySend in place of Send, and one for all connections, over an Inbox.",
			cases: loopCases(),
		},
		{
			name: "large", title: "Large messages", columns: largeColumns, chart: bytesKey,
			about: "Binary messages of one frame. A message is echoed once all of it has arrived (the raw loop does not " +
				"wait for that).",
			cases: []benchCase{
				echoCase(true, large64KCase, 4, 1, 64<<10),
				echoCase(true, large1MCase, 4, 1, 1<<20),
				echoCase(true, large16MCase, 4, 1, 16<<20),
			},
		},
		{
			name: "streams", title: "Messages in pieces", columns: largeColumns, chart: bytesKey,
			about: "Binary messages of one frame, echoed in pieces while they arrive and never held whole: wsd's Body and Send " +
				"with StreamAbove of 64 KiB, gorilla's NextReader and NextWriter, coder's Reader and Writer.",
			cases: []benchCase{
				echoOf(true, large1MCase, role{Work: serveEcho, Stream: true}, 4, 1, 1<<20),
				echoOf(true, large16MCase, role{Work: serveEcho, Stream: true}, 4, 1, 16<<20),
			},
		},
		{
			name: "broadcast", title: "Broadcast", columns: broadcastColumns, chart: cpuKey,
			about: "Messages of 128 bytes from one publisher to all subscribers. In flight: how many messages are " +
				"published and not yet read by every subscriber that isn't slow. A slow one reads 20 KB/s; deliveries to " +
				"it are not counted.",
			cases: []benchCase{
				broadcastCase(false, "500 subscribers, 1 in flight", 500, 0, 1),
				broadcastCase(true, few64Case, 500, 0, 64),
				broadcastCase(true, few64SlowCase, 500, 5, 64),
				broadcastCase(false, "5,000 subscribers, 1 in flight", 5000, 0, 1),
				broadcastCase(false, many64Case, 5000, 0, 64),
				broadcastCase(false, many64SlowCase, 5000, 50, 64),
				deliveryCase(false, "500 subscribers, 26 more that do not read, 2 in flight, 1 MiB", role{Work: serveBroadcast}, 500, 26, 2, 1<<20),
				deliveryCase(false, "1,000 subscribers, 53 more that do not read, 2 in flight, 1 MiB", role{Work: serveBroadcast}, 1000, 53, 2, 1<<20),
			},
		},
		{
			name: "hub", title: "Topics", columns: broadcastColumns, chart: cpuKey,
			about: "One topic to all subscribers and 128 bytes, where nothing else is said: wsd's package hub in memory, over an " +
				"embedded NATS server, and over two with the publisher at one and all subscribers at the other (CPU of both); a loop of TrySendPrepared; melody; " +
				"centrifuge, whose subscribers speak its protocol; and for the other libraries the loop of their chat examples. Where all get " +
				"1,000 topics, wsd's hub has a pattern under Latest, and the others have all in one. A slow one reads 20 KB/s; deliveries to it are not counted.",
			cases: []benchCase{
				hubCase(false, "500 subscribers, 1 in flight", 500, 0, 1, 128),
				hubCase(true, few64Case, 500, 0, 64, 128),
				hubCase(false, few64SlowCase, 500, 5, 64, 128),
				hubCase(false, many64Case, 5000, 0, 64, 128),
				hubCase(false, "500 subscribers, 4 in flight, 1 MiB", 500, 0, 4, 1<<20),
				topicsCase(false, "10,000 topics with 5 subscribers each, 500 in all, 1,024 in flight", 10_000, 500, 1024),
				latestCase(false, "1,000 topics, 250 subscribers to all, 250 slow ones more, 64 in flight", 1000, 250, 250, 64),
			},
		},
		{
			name: "idle", title: "Idle connections", columns: memoryColumns, chart: memoryKey,
			about: "The server's resident memory after one echo on each connection and a collection, less what it was " +
				"before, divided by the number of connections." + spread,
			cases: []benchCase{
				idleCase(true, idleCaseName, 5000, role{Work: serveIdle}),
				idleCase(false, manyIdleCase, manyIdle, role{Work: serveIdle}),
				idleCase(true, idleCaseName+inboxSuffix, 5000, role{Work: serveIdle, Loop: inboxPath}),
				idleCase(false, manyIdleCase+inboxSuffix, manyIdle, role{Work: serveIdle, Loop: inboxPath}),
			},
		},
		{
			name: "handshakes", title: "Handshakes", columns: handshakeColumns, chart: cpuKey,
			about: "TCP connection, opening handshake, connection reset. The CPU time includes all three. The raw loop " +
				"echoes the request.",
			cases: []benchCase{handshakeCase()},
		},
		{
			name: "deflate", title: "permessage-deflate", columns: timeColumns, chart: rateKey,
			about: "JSON texts of 1 KiB, 64 connections with 16 in flight, windows of 32 KiB, each library's fastest level.",
			cases: []benchCase{
				deflateCase(true, noTakeoverCase, role{Work: serveEcho, Deflate: true}),
				deflateCase(true, takeoverCase, role{Work: serveEcho, Deflate: true, Takeover: true}),
				deflateCase(false, smallWindowCase, role{Work: serveEcho, Deflate: true, Takeover: true, Window: 12}),
			},
		},
		{
			name: "deflate-idle", title: "Idle connections with permessage-deflate", columns: memoryColumns, chart: memoryKey,
			about: "As for idle connections, after echoes of 64 KiB of JSON texts on each, which fill windows of 32 KiB.",
			cases: []benchCase{
				idleCase(false, idleNoTakeoverCase, 1000, role{Work: serveIdle, Deflate: true}),
				idleCase(true, idleTakeoverCase, 1000, role{Work: serveIdle, Deflate: true, Takeover: true}),
				idleCase(false, idleSmallWindowCase, 1000, role{Work: serveIdle, Deflate: true, Takeover: true, Window: 12}),
			},
		},
		{
			name: "tls", title: "TLS", columns: timeColumns, chart: cpuKey,
			about: "As the echo, over TLS 1.3. The load client encrypts with a goroutine for each connection and takes far " +
				"more of the machine than over plain TCP.",
			cases: []benchCase{
				tlsCase(false, singleCase, 64, 1, 64),
				tlsCase(true, pipelinedCase, 64, 64, 64),
				tlsCase(false, burstCase, 64, 16, 1<<10),
			},
		},
		{
			name: "client", title: "Clients", columns: timeColumns, chart: cpuKey,
			about: "Each library's own client against one raw echo server. The CPU time is the client's. The raw line " +
				"sends frames composed beforehand.",
			cases: []benchCase{
				clientCase(false, lonelyCase, 1, 1, 64),
				clientCase(false, lonelyKiBCase, 1, 1, 1<<10),
				clientCase(false, pinnedCase, 1, 1, 64),
				clientCase(false, pinnedKiBCase, 1, 1, 1<<10),
				clientCase(true, singleCase, 64, 1, 64),
				clientCase(false, singleKiBCase, 64, 1, 1<<10),
				clientCase(true, pipelinedCase, 64, 64, 64),
				clientCase(false, burstCase, 64, 16, 1<<10),
				clientCase(false, large64KCase, 4, 1, 64<<10),
			},
		},
		{
			name: "flood", title: "One peer that floods", columns: timeColumns, chart: p50Key,
			about: "As the echo of 64 connections with 1 message of 64 bytes in flight, beside one more that has 1,024 under way " +
				"all the time, which is not counted, though its CPU time is. With a rate: wsd with a ReceiveRate of " +
				"10,000 messages a second, more than the others send; one that keeps to it sends as many, in bursts of a millisecond.",
			cases: []benchCase{
				floodCase(false, "nobody floods", nil, 0),
				floodCase(false, "nobody floods, with a rate", nil, floodPace),
				floodCase(true, "one floods", flooding, 0),
				floodCase(false, "one keeps to the rate, with a rate", keepingPace, floodPace),
				floodCase(true, "one floods, with a rate", flooding, floodPace),
			},
		},
		{
			name: "growth", title: "Growth", columns: timeColumns, chart: rateKey, oneScale: true,
			about: "As the echo, with 1 message of 64 bytes in flight on a growing number of connections, all of them active.",
			cases: []benchCase{
				echoCase(true, "10 connections", 10, 1, 64),
				echoCase(false, "100 connections", 100, 1, 64),
				echoCase(true, "1,000 connections", 1000, 1, 64),
				echoCase(false, "10,000 connections", 10_000, 1, 64),
			},
		},
	}
}
