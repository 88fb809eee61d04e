// bench_test.go runs wsd bench against servers that do well, and against some that do not.

package main_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/hub"
)

// report is what wsd bench -json writes.
type report struct {
	Connections, Opened     int
	Sent, Received, Missing int
	BytesSent               int `json:"bytes_sent"`
	BytesReceived           int `json:"bytes_received"`
	Rate                    float64
	Latency                 map[string]float64 `json:"latency_ns"`
	Errors                  []struct {
		Reason string
		Count  int
	}
	Points []map[string]float64
}

// benchmark runs wsd bench -json and returns its report and exit status.
func benchmark(t *testing.T, args ...string) (report, int) {
	t.Helper()
	r := run(t, "", append([]string{"bench", "-json", "-for", "300ms"}, args...)...)
	var parsed report
	require.NoError(t, json.Unmarshal([]byte(r.stdout), &parsed), "%s\n%s", r.stdout, r.stderr)
	return parsed, r.status
}

func TestBenchCountsEveryMessage(t *testing.T) {
	t.Parallel()
	var received, bytes atomic.Int64
	url := server(t, &wsd.AcceptOptions{Config: wsd.Config{Compression: &wsd.Compression{}}}, func(conn *wsd.Conn, _ *http.Request) {
		for m := range conn.Messages() {
			received.Add(1)
			bytes.Add(int64(len(m.Data)))
			_ = conn.Send(conn.Context(), m)
		}
	})
	for _, args := range []string{"", "-c 64 -inflight 64", "-c 20 -rate 2000", "-c 5 -ramp 100ms", "-c 5 -ramp 100ms -rate 100", "-size 1,200,100KiB -inflight 4",
		"-size 10-3000 -compress -text", "-size 10-300,5,1KiB -rate 2000", "-rate 500 -size 100 -template {\"n\":{{n}},\"pad\":\"{{pad}}\"}",
		"-c 2000 -rate 1000"} {
		received.Store(0)
		bytes.Store(0)
		r, status := benchmark(t, append(strings.Fields(args), url)...)
		assert.Equal(t, 0, status, args)
		assert.Empty(t, r.Errors, args)
		assert.Equal(t, r.Connections, r.Opened, args)
		assert.Positive(t, r.Latency["count"], args)
		assert.GreaterOrEqual(t, int(received.Load()), r.Sent, "%s: there are more, behind the time", args)
		assert.Zero(t, r.Missing, args)
		assert.LessOrEqual(t, r.Received, r.Sent, args)
		assert.Positive(t, r.Latency["p50"], args)
		assert.LessOrEqual(t, r.Latency["p50"], r.Latency["p99"], args)
		assert.NotEmpty(t, r.Points, args)
	}
}

func TestBenchFillsInATemplate(t *testing.T) {
	t.Parallel()
	var bad atomic.Int64
	url := server(t, nil, func(conn *wsd.Conn, _ *http.Request) {
		n := 0
		for m := range conn.Messages() {
			var v struct {
				N   int
				Pad string
			}
			if m.Decode(&v) != nil || v.N != n || len(m.Data) != 500 || m.Type != wsd.TextMessage {
				bad.Add(1)
			}
			n++
			_ = conn.Send(conn.Context(), m)
		}
	})
	r, status := benchmark(t, "-template", `{"n":{{n}},"pad":"{{pad}}"}`, "-size", "500", url)
	assert.Equal(t, 0, status)
	assert.Positive(t, r.Latency["count"])
	assert.Zero(t, bad.Load())
}

func TestBenchChargesAStallToAllThatItDelayed(t *testing.T) {
	t.Parallel()
	url := server(t, nil, func(conn *wsd.Conn, _ *http.Request) {
		first := true
		for m := range conn.Messages() {
			if first {
				time.Sleep(300 * time.Millisecond)
				first = false
			}
			_ = conn.Send(conn.Context(), m)
		}
	})
	r, _ := benchmark(t, "-c", "1", "-rate", "1000", "-for", "600ms", url)
	// Every second message at least was due while the server slept; one at a time, a single one would have waited.
	assert.Greater(t, r.Latency["p50"], 1e6, "nanoseconds")
	assert.Greater(t, r.Latency["max"], 2e8)
}

func TestBenchMeasuresABroadcast(t *testing.T) {
	t.Parallel()
	url := serve(t, "-broadcast")
	for _, args := range []string{"-inflight 4", "-rate 100", "-rate 100 -template {\"at\":\"{{stamp}}\"}"} {
		r, status := benchmark(t, append(strings.Fields(args), "-sub", "-c", "20", url)...)
		assert.Equal(t, 0, status, "%s: %v", args, r.Errors)
		assert.Equal(t, 21, r.Opened)
		assert.Positive(t, r.Sent)
		assert.Zero(t, r.Missing, args)
		assert.Positive(t, r.Latency["p50"])
	}
	// A server that only echoes to the publisher.
	r, status := benchmark(t, "-sub", "-c", "3", "-rate", "100", serve(t))
	assert.Equal(t, 1, status)
	assert.Equal(t, r.Missing, r.Errors[0].Count)
	assert.Contains(t, r.Errors[0].Reason, "deliveries did not come")
}

func TestBenchWaitsForLateSubscribers(t *testing.T) {
	t.Parallel()
	topics, joined := hub.New(nil), atomic.Int64{}
	t.Cleanup(func() { _ = topics.Close() })
	url := server(t, nil, func(conn *wsd.Conn, _ *http.Request) {
		time.Sleep(time.Duration(joined.Add(1)%5) * 30 * time.Millisecond)
		member, err := topics.Join(conn, "")
		assert.NoError(t, err)
		assert.NoError(t, member.Subscribe("all"))
		for m := range conn.Messages() {
			_ = topics.Publish(conn.Context(), "all", m)
		}
	})
	for _, args := range []string{"-inflight 2", "-rate 100", "-rate 100 -ramp 200ms"} {
		r, status := benchmark(t, append(strings.Fields(args), "-sub", "-c", "10", url)...)
		assert.Equal(t, 0, status, "%s: %v", args, r.Errors)
		assert.Zero(t, r.Missing, args)
		if strings.Contains(args, "-rate") {
			// What was due before the last had connected is not made up for.
			assert.Less(t, r.Latency["p50"], 2e8, "nanoseconds")
			assert.LessOrEqual(t, r.Sent, 51, args)
		}
	}
}

func TestBenchCountsWhatFailsByReason(t *testing.T) {
	t.Parallel()
	var n atomic.Int64
	ws := new(wsd.Server)
	mixed := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch n.Add(1) % 4 {
		case 0:
			http.Error(w, "full", http.StatusServiceUnavailable)
		case 1:
			_ = ws.Serve(w, r, nil, func(conn *wsd.Conn) {
				_, _ = conn.Receive(conn.Context())
				_ = conn.Close(wsd.StatusTryAgainLater, "later")
			})
		case 2:
			_ = ws.Serve(w, r, nil, func(conn *wsd.Conn) {
				_, _ = conn.Receive(conn.Context())
				_ = conn.Send(conn.Context(), wsd.Text("something else"))
				for range conn.Messages() {
				}
			})
		default:
			_ = ws.Serve(w, r, nil, func(conn *wsd.Conn) {
				for m := range conn.Messages() {
					_ = conn.Send(conn.Context(), m)
				}
			})
		}
	}))
	t.Cleanup(mixed.Close)
	r, status := benchmark(t, "-c", "40", mixed.URL)
	assert.Equal(t, 1, status)
	reasons := map[string]int{}
	for _, e := range r.Errors {
		reasons[e.Reason] = e.Count
	}
	assert.Equal(t, map[string]int{
		"the handshake was answered with status 503":          10,
		"closed by the server: 1013 (try again later): later": 10,
		"expected an echo of 64 bytes, got 14 bytes":          10,
		"messages had no answer":                              20,
	}, reasons)
	assert.Equal(t, 30, r.Opened)
	assert.Positive(t, r.Latency["count"])
}

// A server that says something by itself is no echo, whatever the pace.
func TestBenchFindsWhatIsNoEcho(t *testing.T) {
	t.Parallel()
	greets := func(greeting string, times int) string {
		return server(t, nil, func(conn *wsd.Conn, _ *http.Request) {
			for range times {
				_ = conn.Send(conn.Context(), wsd.Text(greeting))
			}
			for m := range conn.Messages() {
				_ = conn.Send(conn.Context(), m)
			}
		})
	}
	for _, c := range []struct{ url, args, want string }{
		{greets("welcome", 1), "-c 2", "expected an echo of 64 bytes, got 7 bytes"},
		{greets("welcome", 1), "-c 2 -rate 1000", "expected an echo of"},
		{greets(strings.Repeat("!", 64), 1000), "-c 2 -rate 100", "expected an echo of each message, got 64 bytes ahead of one"},
	} {
		r, status := benchmark(t, append(strings.Fields(c.args), c.url)...)
		assert.Equal(t, 1, status)
		found := 0
		for _, e := range r.Errors {
			if strings.Contains(e.Reason, c.want) {
				found += e.Count
			}
		}
		assert.Equal(t, 2, found, "%s: %v", c.args, r.Errors)
		assert.LessOrEqual(t, r.Missing, r.Sent)
	}
}

func TestBenchCountsWhatItHadNoTimeFor(t *testing.T) {
	t.Parallel()
	slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(100 * time.Millisecond)
		_ = new(wsd.Server).Serve(w, r, nil, func(conn *wsd.Conn) {
			for m := range conn.Messages() {
				_ = conn.Send(conn.Context(), m)
			}
		})
	}))
	t.Cleanup(slow.Close)
	r, status := benchmark(t, "-c", "1000", "-ramp", "10ms", slow.URL)
	assert.Equal(t, 1, status)
	require.NotEmpty(t, r.Errors)
	assert.Equal(t, "the time was over before it was connected", r.Errors[0].Reason)
	assert.Equal(t, 1000, r.Opened+r.Errors[0].Count)
}

func TestBenchSaysWhatIsInTheWay(t *testing.T) {
	t.Parallel()
	url := serve(t)
	cmd := exec.Command("bash", "-c", `ulimit -n 200; exec "$0" bench -c 1000 "$1"`, binary, url)
	out, err := cmd.CombinedOutput()
	require.Error(t, err)
	assert.Equal(t, "wsd bench: 1000 connections need 1032 open files, and 200 are allowed: ulimit -n 1032 raises that\n", string(out))
	r := run(t, "", "bench", "ws://127.0.0.1:1/", "-c", "3")
	assert.Equal(t, 1, r.status)
	assert.Contains(t, r.stderr, "no connection was opened: cannot connect to 127.0.0.1:1")
	r = run(t, "", "bench", url, "-for", "1h", "-html", "/no/such/dir/file")
	assert.Equal(t, 1, r.status)
	assert.Equal(t, "wsd bench: -html: open /no/such/dir/file: no such file or directory\n", r.stderr, "ahead of the run")
	for _, c := range [][2]string{
		{"-size 10-5", "the lower one of a range first"}, {"-rate 0", "above 0"}, {"-template {{x}}", "expected {{n}}, {{pad}} or {{stamp}}"},
		{"-text -binary", "expected one of them"}, {"-sub -template x", "expected {{stamp}}"}, {"-d 5s", "-for TIME says how long"}, {"-c 0", "from 1 on"},
		{"-json {\"n\":1}", "-template TEXT is what is sent"},
	} {
		r := run(t, "", append(append([]string{"bench"}, strings.Fields(c[0])...), url)...)
		assert.Equal(t, 2, r.status)
		assert.Contains(t, r.stderr, c[1])
	}
}

func TestBenchWritesATableAndAPage(t *testing.T) {
	t.Parallel()
	page := filepath.Join(t.TempDir(), "report.html")
	url := strings.Replace(serve(t), "ws://", "ws://me:secret@", 1)
	r := run(t, "", "bench", "-for", "500ms", "-c", "4", "-html", page, url)
	assert.Equal(t, 0, r.status, r.stderr)
	for _, part := range []string{"connections  4 of 4", "failed       none", "p99.9", "█"} {
		assert.Contains(t, r.stdout, part)
	}
	content, err := os.ReadFile(page)
	require.NoError(t, err)
	html := string(content)
	assert.Equal(t, 4, strings.Count(html, "<svg"))
	assert.Contains(t, html, "<polyline")
	for _, outside := range []string{"http://", "https://", "src=", "@import", "url("} {
		assert.NotContains(t, html, outside, "the page needs nothing else")
	}
	assert.NotContains(t, html+r.stdout, "secret")
	x := startTerminal(t, nil, "bench", url, "-for", "2s")
	x.screen.wait(t, `\r +\d\.\d s  [\d,]+/s  p50 [\d.]+ (µs|ms)  p99 [\d.]+ (µs|ms)  max [\d.]+ .s  10 open  0 failed`)
	assert.Equal(t, 0, x.interrupt(t), "the results so far")
	live, _, _ := strings.Cut(x.screen.String(), "\n")
	for line := range strings.SplitSeq(live, "\r") {
		assert.Less(t, len([]rune(line)), 80, "a line that is broken could not be written over")
	}
	x.screen.wait(t, `connections +10 of 10`)
}
