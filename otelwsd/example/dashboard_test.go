// dashboard_test.go checks the dashboard against what is exported: each query has a result, by names and labels that there
// are, and each metric is shown.

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/otelwsd"
	"github.com/seed62836080/wsd/wsdtest"
)

// dashboard is what is checked of dashboard.json.
type dashboard struct {
	Templating struct {
		List []struct{ Name, Type, Query string }
	}
	Panels []struct {
		ID      int
		Type    string
		Title   string
		GridPos struct{ X, Y, W, H int }
		Targets []struct{ RefID, Expr, LegendFormat string }
	}
}

func readDashboard(t *testing.T) *dashboard {
	data, err := os.ReadFile("../dashboard.json")
	require.NoError(t, err)
	d := new(dashboard)
	require.NoError(t, json.Unmarshal(data, d))
	require.NotEmpty(t, d.Panels)
	return d
}

// fill sets the variables of Grafana in a query.
var fill = strings.NewReplacer("$__rate_interval", "1m", "$job", "wsd", "$instance", ".*")

// scrapedTraffic returns what Prometheus has after some traffic of a server and its clients, and the time of the last scrape.
func scrapedTraffic(t *testing.T) (*database, time.Time) {
	registry := prometheus.NewRegistry()
	meters, err := newMeterProvider(registry)
	require.NoError(t, err)
	ws, err := newServer(meters)
	require.NoError(t, err)
	clients, err := otelwsd.New(wsd.ClientRole, &otelwsd.Options{MeterProvider: meters})
	require.NoError(t, err)
	server := httptest.NewServer(routes(ws, registry))
	defer server.Close()
	db, at := newDatabase(t), time.Now()
	for range 2 {
		traffic(t, server.URL, ws.Trace, clients.Trace())
		db.scrape(t, server.URL+"/metrics", at)
		at = at.Add(30 * time.Second)
	}
	require.NoError(t, ws.Shutdown(t.Context()))
	require.NoError(t, meters.Shutdown(t.Context()))
	http.DefaultClient.CloseIdleConnections()
	return db, at.Add(-30 * time.Second)
}

// traffic has everything happen that metrics can tell of.
func traffic(t *testing.T, url string, servers, clients *wsd.Trace) {
	opts := &wsd.DialOptions{Config: wsd.Config{Trace: clients, Compression: &wsd.Compression{}}}
	conn, _, err := wsd.Dial(t.Context(), url+"/echo", opts)
	require.NoError(t, err)
	for _, m := range []wsd.Message{wsd.Text(strings.Repeat("the same again, ", 100)), wsd.Binary(make([]byte, 1000))} {
		require.NoError(t, conn.Send(t.Context(), m))
		_, err = conn.Receive(t.Context())
		require.NoError(t, err)
	}
	_, err = conn.Ping(t.Context(), nil)
	require.NoError(t, err)
	require.NoError(t, conn.Close(wsd.StatusNormalClosure, ""))

	evil := &wsd.DialOptions{Header: http.Header{"Origin": {"http://evil.example"}}}
	_, _, err = wsd.Dial(t.Context(), url+"/echo", evil)
	require.Error(t, err)

	for _, both := range [][2]*wsd.Trace{{servers, clients}, {clients, servers}} {
		stall(t, both[0], both[1])
	}
	for role, trace := range map[wsd.Role]*wsd.Trace{wsd.ServerRole: servers, wsd.ClientRole: clients} {
		fail(role, trace)
	}
}

// stall has a message wait for its receiver, and answers a ping.
func stall(t *testing.T, client, server *wsd.Trace) {
	stalled := make(chan struct{})
	noted := wsd.MultiTrace(server, &wsd.Trace{StallBegun: func(*wsd.Conn) { close(stalled) }})
	near, far := wsdtest.Pipe(wsd.Config{Trace: client}, wsd.Config{Trace: noted, MessageBuffer: -1, SendQueue: 100})
	defer near.CloseNow()
	defer far.CloseNow()
	_, err := far.Ping(t.Context(), nil)
	require.NoError(t, err)
	require.NoError(t, near.Send(t.Context(), wsd.Text("waits")))
	<-stalled
	_, err = far.Receive(t.Context())
	require.NoError(t, err)
	for far.TrySend(wsd.Binary(make([]byte, 1000))) == nil {
	}
}

// fail has a connection fail for what its peer sends.
func fail(role wsd.Role, trace *wsd.Trace) {
	transport, peer := net.Pipe()
	conn := wsd.NewConn(transport, role, wsd.Config{Trace: trace})
	_, _ = peer.Write([]byte{0xFF, 0xFF})
	_ = peer.Close()
	<-conn.Closed()
}

// Each query of the dashboard has a result, and uses names and labels that there are.
func TestQueriesOfTheDashboard(t *testing.T) {
	db, at := scrapedTraffic(t)
	for _, panel := range readDashboard(t).Panels {
		for _, target := range panel.Targets {
			expr := fill.Replace(target.Expr)
			require.NotContains(t, expr, "$", panel.Title)
			parsed, err := parser.NewParser(parser.Options{}).ParseExpr(expr)
			require.NoError(t, err, panel.Title)
			for _, selector := range selectors(parsed) {
				has := db.labelsOf(selector.Name)
				require.NotNil(t, has, "%s: %s is not exported", panel.Title, selector.Name)
				for _, matcher := range selector.LabelMatchers {
					require.True(t, has[matcher.Name], "%s: %s has no label %s", panel.Title, selector.Name, matcher.Name)
				}
			}
			vector := db.query(t, expr, at)
			require.NotEmpty(t, vector, "%s: %s", panel.Title, expr)
			for _, label := range legendLabels(target.LegendFormat) {
				for _, sample := range vector {
					require.NotEmpty(t, sample.Metric.Get(label), "%s: %s has no %s for the legend", panel.Title, expr, label)
				}
			}
		}
	}
}

// What the numbers are, for some of the queries.
func TestNumbersOfTheDashboard(t *testing.T) {
	db, at := scrapedTraffic(t)
	results := make(map[string]map[string]float64)
	for _, panel := range readDashboard(t).Panels {
		for _, target := range panel.Targets {
			of := make(map[string]float64)
			for _, sample := range db.query(t, fill.Replace(target.Expr), at) {
				of[sample.Metric.String()] = sample.F
			}
			results[target.Expr] = of
		}
	}
	find := func(parts ...string) map[string]float64 {
		for expr, result := range results {
			if !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(expr, part) }) {
				return result
			}
		}
		t.Fatal("no query with ", parts)
		return nil
	}
	refused := find("http_response_status_code", "websocket_server_refused_handshakes_total")
	require.Len(t, refused, 1)
	require.Greater(t, refused[`{http_response_status_code="403"}`], 0.0)
	compression := find("websocket_client_wire_io_bytes_total")
	require.Less(t, compression[`{network_io_direction="transmit"}`], 1.0, "what it sent was compressed")
	failures := find("error_type", "websocket_server_connection_duration_seconds_count")
	require.Contains(t, failures, `{error_type="1002"}`)
	require.Greater(t, find("websocket_server_queue_overflows_total")[`{}`], 0.0)
}

// Each metric that is exported is shown.
func TestTheDashboardShowsAllMetrics(t *testing.T) {
	db, _ := scrapedTraffic(t)
	shown := make(map[string]bool)
	for _, panel := range readDashboard(t).Panels {
		for _, target := range panel.Targets {
			parsed, err := parser.NewParser(parser.Options{}).ParseExpr(fill.Replace(target.Expr))
			require.NoError(t, err)
			for _, selector := range selectors(parsed) {
				shown[histogramOf(selector.Name)] = true
			}
		}
	}
	exported := 0
	for _, s := range db.series {
		name := s.Metric.Get(model.MetricNameLabel)
		if strings.HasPrefix(name, "websocket_") {
			exported++
			require.True(t, shown[histogramOf(name)], "%s is not on the dashboard", name)
		}
	}
	require.Greater(t, exported, 50)
}

// Grafana shows panels whose IDs and places are their own.
func TestPanelsOfTheDashboard(t *testing.T) {
	d := readDashboard(t)
	ids, cells := make(map[int]bool), make(map[[2]int]string)
	for _, panel := range d.Panels {
		require.False(t, ids[panel.ID], "%s: the ID %d is taken", panel.Title, panel.ID)
		ids[panel.ID] = true
		require.Equal(t, panel.Type == "row", len(panel.Targets) == 0, panel.Title)
		place := panel.GridPos
		require.LessOrEqual(t, place.X+place.W, 24, panel.Title)
		for x := range place.W {
			for y := range place.H {
				cell := [2]int{place.X + x, place.Y + y}
				require.Empty(t, cells[cell], "%s is on top of it", panel.Title)
				cells[cell] = panel.Title
			}
		}
	}
	var variables []string
	for _, variable := range d.Templating.List {
		variables = append(variables, variable.Name)
	}
	require.Equal(t, []string{"datasource", "job", "instance"}, variables)
}

// asProgram has the test binary be the program.
const asProgram = "WSD_EXAMPLE_TEST"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// The command explains itself, and refuses what it does not understand.
func TestCommandLine(t *testing.T) {
	for _, row := range []struct {
		arg    string
		status int
		says   string
	}{
		{"-help", 0, `^usage: example \S.*\n\nExample is `},
		{"extra", 2, `^example: expected no arguments, got \["extra"\]; -help says more\n$`},
		{"-nosuch", 2, `-nosuch\nusage: example `},
	} {
		var stdout, stderr bytes.Buffer
		cmd := exec.CommandContext(t.Context(), os.Args[0], row.arg)
		cmd.Env = append(os.Environ(), asProgram+"=yes")
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		_ = cmd.Run()
		require.Equal(t, row.status, cmd.ProcessState.ExitCode(), row.arg)
		require.Empty(t, stdout.String(), "it has not begun")
		require.Regexp(t, row.says, stderr.String())
	}
}

// The command serves, and goes down when it is told to.
func TestRun(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := listener.Addr().String()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, listener) }()
	conn, _, err := wsd.Dial(t.Context(), "ws://"+addr+"/echo", nil)
	require.NoError(t, err)
	defer conn.CloseNow()
	resp, err := http.Get("http://" + addr + "/metrics")
	require.NoError(t, err)
	var body bytes.Buffer
	_, err = body.ReadFrom(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Contains(t, body.String(), "websocket_server_connections_total")
	http.DefaultClient.CloseIdleConnections()
	cancel()
	require.NoError(t, <-ended)
	<-conn.Closed()
	require.Equal(t, wsd.StatusGoingAway, conn.CloseEvent().Code)
}

// selectors returns what a query asks the database for.
func selectors(expr parser.Expr) []*parser.VectorSelector {
	var all []*parser.VectorSelector
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		if selector, ok := node.(*parser.VectorSelector); ok {
			all = append(all, selector)
		}
		return nil
	})
	return all
}

// histogramOf returns the metric to which a name belongs: a histogram has several.
func histogramOf(name string) string {
	for _, part := range []string{"_bucket", "_sum", "_count"} {
		name = strings.TrimSuffix(name, part)
	}
	return name
}

// legendLabels returns the labels that a legend names.
func legendLabels(legend string) []string {
	var names []string
	for _, match := range regexp.MustCompile(`{{(\w+)}}`).FindAllStringSubmatch(legend, -1) {
		names = append(names, match[1])
	}
	return names
}
