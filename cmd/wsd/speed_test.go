// speed_test.go measures what bench and tap cost beside programs that do the same without counting and without looking:
//
//	go test -run '^$' -bench Speed -benchtime 5x .
//
// Each of the -benchtime's rounds runs both sides, one behind the other, in processes of their own against the raw echo server
// of bench/, and what is reported is the median of the rounds.

package main_test

import (
	"bufio"
	"context"
	"crypto/rand"
	encoding "encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
)

// roleVariable has the test binary be one of roles, with its arguments.
const roleVariable = "WSD_SPEED_ROLE"

var roles = map[string]func(args []string) error{"loop": loopRole, "relay": relayRole, "sink": sinkRole, "blast": blastRole, "lone": loneRole}

// The load that bench is measured with, and for how long each round runs.
const (
	speedConns, speedInflight, speedSize = 64, 64, 64

	speedTime = time.Second
)

// part is a process that is measured, or that helps.
type part struct {
	*exec.Cmd
	out *bufio.Reader
}

func startPart(b *testing.B, env string, path string, args ...string) *part {
	b.Helper()
	p := &part{Cmd: exec.Command(path, args...)}
	p.Env = append(environment(), env)
	p.Stderr = os.Stderr
	_, err := p.StdinPipe() // bench's server ends with it
	require.NoError(b, err)
	out, err := p.StdoutPipe()
	require.NoError(b, err)
	p.out = bufio.NewReader(out)
	require.NoError(b, p.Start())
	b.Cleanup(func() {
		_ = p.Process.Kill()
		_ = p.Wait()
	})
	return p
}

func startRole(b *testing.B, role string, args ...string) *part {
	b.Helper()
	return startPart(b, roleVariable+"="+role, os.Args[0], args...)
}

// line returns the next line that the process prints.
func (p *part) line(b *testing.B) string {
	b.Helper()
	line, err := p.out.ReadString('\n')
	require.NoError(b, err, "%v", p.Args)
	return strings.TrimSpace(line)
}

// number returns the next line, which is a number.
func (p *part) number(b *testing.B) float64 {
	b.Helper()
	n, err := strconv.ParseFloat(p.line(b), 64)
	require.NoError(b, err)
	return n
}

// rawEcho starts the raw echo server of bench/, and returns its URL.
func rawEcho(b *testing.B) string {
	b.Helper()
	path := filepath.Join(shared, "bench")
	if _, err := os.Stat(path); err != nil {
		out, err := exec.Command("go", "build", "-C", "../../bench", "-o", path, ".").CombinedOutput()
		require.NoError(b, err, "%s", out)
	}
	p := startPart(b, "", path, "-role", `{"Library": "raw echo", "Work": "echo"}`)
	return fmt.Sprintf("ws://127.0.0.1:%s/", p.line(b))
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}

// startBench starts wsd bench.
func startBench(b *testing.B, url string, size int) *part {
	b.Helper()
	return startPart(b, "", binary, "bench", "-q", "-json", "-c", strconv.Itoa(speedConns), "-inflight", strconv.Itoa(speedInflight),
		"-size", strconv.Itoa(size), "-for", speedTime.String(), url)
}

// received returns how many messages a wsd bench has received, at its end.
func (p *part) received(b *testing.B) float64 {
	b.Helper()
	var r report
	require.NoError(b, json.NewDecoder(p.out).Decode(&r))
	return float64(r.Received)
}

// BenchmarkSpeedBench compares wsd bench with a loop that sends, receives and counts nothing but messages.
func BenchmarkSpeedBench(b *testing.B) {
	url := rawEcho(b)
	cpu := func(p *part, messages func() float64) float64 {
		n := messages()
		require.NoError(b, p.Wait())
		return float64(p.ProcessState.UserTime()+p.ProcessState.SystemTime()) / n
	}
	var bench, loop []float64
	for b.Loop() {
		p := startBench(b, url, speedSize)
		bench = append(bench, cpu(p, func() float64 { return p.received(b) }))
		p = startRole(b, "loop", url)
		loop = append(loop, cpu(p, func() float64 { return p.number(b) }))
	}
	b.ReportMetric(median(bench), "bench-cpu-ns/message")
	b.ReportMetric(median(loop), "loop-cpu-ns/message")
	b.ReportMetric(median(bench)/median(loop), "ratio")
}

// loopRole is the least that a client with wsd does: URL.
func loopRole(args []string) error {
	ctx := context.Background()
	message := wsd.Binary(make([]byte, speedSize))
	var over atomic.Bool
	var received atomic.Uint64
	var work sync.WaitGroup
	for range speedConns {
		conn, _, err := wsd.Dial(ctx, args[0], nil)
		if err != nil {
			return err
		}
		work.Go(func() {
			defer conn.CloseNow()
			n, more := 0, speedInflight
			for range speedInflight {
				_ = conn.Send(ctx, message)
			}
			for m := range conn.Messages() {
				m.Release()
				if n++; over.Load() {
					if more--; more == 0 {
						break
					}
				} else if conn.Send(ctx, message) != nil {
					break
				}
			}
			received.Add(uint64(n))
		})
	}
	time.Sleep(speedTime)
	over.Store(true)
	work.Wait()
	_, err := fmt.Println(received.Load())
	return err
}

// between starts what stands between a client and a target, and returns the URL for the client.
func between(b *testing.B, what, target string) string {
	b.Helper()
	switch what {
	case "direct":
		return target
	case "relay":
		return "ws://" + startRole(b, "relay", strings.Trim(target, "ws:/")).line(b) + "/"
	}
	listen := fmt.Sprintf("127.0.0.1:%d", freePort(b))
	args := append(strings.Fields(what), listen, target)
	cmd := exec.Command(binary, args...)
	cmd.Env = environment()
	said := new(output)
	cmd.Stderr = said // and the lines go to /dev/null
	require.NoError(b, cmd.Start())
	b.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	require.Eventually(b, func() bool { return strings.Contains(said.String(), "listening") }, patience, time.Millisecond)
	return "ws://" + listen + "/"
}

// taps are the ways in which tap is measured: with a line for each frame, and without.
var taps = []string{"tap", "tap -q"}

// BenchmarkSpeedTapPeers compares how much a client and a server say to each other through tap with how much they do through a
// relay that knows nothing.
func BenchmarkSpeedTapPeers(b *testing.B) {
	for _, tap := range taps {
		for _, size := range []int{64, 1 << 10, 64 << 10} {
			b.Run(fmt.Sprintf("%s/%d", tap, size), func(b *testing.B) {
				target := rawEcho(b)
				passed := map[string][]float64{}
				urls := map[string]string{tap: between(b, tap, target), "relay": between(b, "relay", target)}
				for b.Loop() {
					for what, url := range urls {
						p := startBench(b, url, size)
						passed[what] = append(passed[what], p.received(b))
						require.NoError(b, p.Wait())
					}
				}
				b.ReportMetric(median(passed[tap])/speedTime.Seconds(), "tap-messages/s")
				b.ReportMetric(median(passed["relay"])/speedTime.Seconds(), "relay-messages/s")
				b.ReportMetric(median(passed[tap])/median(passed["relay"]), "ratio")
			})
		}
	}
}

// BenchmarkSpeedTapBytes compares the bytes a second that tap passes on with those of a relay that knows nothing, from a sender
// that has its frames ready in advance, far more of them than a peer makes.
func BenchmarkSpeedTapBytes(b *testing.B) {
	for _, tap := range taps {
		for _, size := range []int{64, 1 << 10, 64 << 10, 1 << 20} {
			b.Run(fmt.Sprintf("%s/%d", tap, size), func(b *testing.B) {
				target := "ws://" + startRole(b, "sink").line(b) + "/"
				through := map[string][]float64{}
				urls := map[string]string{tap: between(b, tap, target), "relay": between(b, "relay", target)}
				for b.Loop() {
					for what, url := range urls {
						through[what] = append(through[what], startRole(b, "blast", url, strconv.Itoa(size)).number(b))
					}
				}
				b.ReportMetric(median(through[tap])/1e6, "tap-MB/s")
				b.ReportMetric(median(through["relay"])/1e6, "relay-MB/s")
				b.ReportMetric(median(through[tap])/median(through["relay"]), "ratio")
			})
		}
	}
}

// BenchmarkSpeedTapLatency compares lone round trips through tap with those through a relay, and without either.
func BenchmarkSpeedTapLatency(b *testing.B) {
	for _, tap := range taps {
		b.Run(tap, func(b *testing.B) {
			target := rawEcho(b)
			took := map[string][]float64{}
			urls := map[string]string{}
			for _, what := range []string{"direct", "relay", tap} {
				urls[what] = between(b, what, target)
			}
			for b.Loop() {
				for what, url := range urls {
					took[what] = append(took[what], startRole(b, "lone", url).number(b))
				}
			}
			direct := median(took["direct"])
			b.ReportMetric(direct/1e3, "direct-µs")
			b.ReportMetric(median(took["relay"])/1e3, "relay-µs")
			b.ReportMetric(median(took[tap])/1e3, "tap-µs")
			b.ReportMetric((median(took["relay"])-direct)/direct, "relay-adds-round-trips")
			b.ReportMetric((median(took[tap])-median(took["relay"]))/direct, "tap-adds-to-that")
		})
	}
}

// pageFrames are how many frames BenchmarkSpeedPage shows, and pageStart notes in the page how long each picture takes.
const (
	pageFrames = 100_000
	pageStart  = `window.pictures = []; window.last = performance.now(); window.step = () => {}; (function picture(now) {
		pictures.push(now - last); last = now; step(); requestAnimationFrame(picture); })(last); true`
)

// BenchmarkSpeedPage measures how long the pictures of the page of tap take, while 100,000 frames come and while all of them are
// scrolled through.
func BenchmarkSpeedPage(b *testing.B) {
	coming, scrolling := map[string][]float64{}, map[string][]float64{}
	note := func(page tab, into map[string][]float64) {
		pictures := evaluate[[]float64](page, `pictures.splice(0).slice(1)`)
		slices.Sort(pictures)
		for name, at := range map[string]int{"median": len(pictures) / 2, "p99": len(pictures) * 99 / 100, "longest": len(pictures) - 1} {
			into[name] = append(into[name], pictures[at])
		}
	}
	for b.Loop() {
		proxy, p := tap(b, serve(b), "-ui", "-q")
		page := browser(b)
		page.do(chromedp.EmulateViewport(1280, 800), chromedp.Navigate(p.stderr.wait(b, `frames are shown at (http://\S+)`)[1]))
		page.await(`document.getElementById("state").textContent === "0 shown"`)
		evaluate[bool](page, pageStart)
		frames(b, proxy, pageFrames)
		page.await(`/^100,000 shown/.test(document.getElementById("state").textContent)`)
		note(page, coming)
		evaluate[bool](page, `window.steps = 0; window.step = () => { list.scrollTop = steps++ * 7919 * 24 % list.scrollHeight; }, true`)
		page.await(`steps > 300`)
		note(page, scrolling)
		_ = p.Process.Kill()
		page.close()
	}
	for _, name := range []string{"median", "p99", "longest"} {
		b.ReportMetric(median(coming[name]), "coming-"+name+"-ms")
		b.ReportMetric(median(scrolling[name]), "scrolling-"+name+"-ms")
	}
}

// acceptEach listens, prints the address and has each connection handled.
func acceptEach(handle func(net.Conn)) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		go handle(conn)
	}
}

// relayRole passes bytes on, as tap does, but does not look at them: TARGET.
func relayRole(args []string) error {
	return acceptEach(func(client net.Conn) {
		defer client.Close()
		server, err := net.Dial("tcp", args[0])
		if err != nil {
			return
		}
		defer server.Close()
		pass := func(to, from net.Conn) {
			buffer := make([]byte, 64<<10)
			for {
				n, err := from.Read(buffer)
				if err != nil {
					_ = to.(*net.TCPConn).CloseWrite()
					return
				}
				if _, err := to.Write(buffer[:n]); err != nil {
					return
				}
			}
		}
		var way sync.WaitGroup
		way.Go(func() { pass(server, client) })
		pass(client, server)
		way.Wait()
	})
}

// sinkRole is a server that takes everything and says nothing.
func sinkRole([]string) error {
	return acceptEach(func(conn net.Conn) {
		defer conn.Close()
		from := bufio.NewReaderSize(conn, 256<<10)
		if _, err := http.ReadRequest(from); err != nil {
			return
		}
		fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
		_, _ = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{from}, make([]byte, 256<<10))
	})
}

// blastRole sends frames as fast as they are taken, and prints how many bytes a second have arrived: URL SIZE.
func blastRole(args []string) error {
	size, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	address := strings.Trim(args[0], "ws:/")
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"+
		"Sec-WebSocket-Version: 13\r\n\r\n", address)
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || response.StatusCode != http.StatusSwitchingProtocols {
		return fmt.Errorf("expected 101, got %v: %w", response, err)
	}
	var frames []byte
	for len(frames) < 256<<10 {
		frames = appendMasked(frames, size)
	}
	began, sent := time.Now(), 0
	for time.Since(began) < speedTime {
		n, err := conn.Write(frames)
		if sent += n; err != nil {
			return err
		}
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, conn) // until the server has read all, and ends
	_, err = fmt.Println(float64(sent) / time.Since(began).Seconds())
	return err
}

// appendMasked appends a binary message as a client sends it.
func appendMasked(b []byte, size int) []byte {
	b = append(b, 0x82)
	switch {
	case size < 126:
		b = append(b, 0x80|byte(size))
	case size <= 0xffff:
		b = encoding.BigEndian.AppendUint16(append(b, 0x80|126), uint16(size))
	default:
		b = encoding.BigEndian.AppendUint64(append(b, 0x80|127), uint64(size))
	}
	random := make([]byte, 4+size)
	_, _ = rand.Read(random)
	return append(b, random...)
}

// loneRole prints the median of round trips one at a time, in nanoseconds: URL.
func loneRole(args []string) error {
	ctx := context.Background()
	conn, _, err := wsd.Dial(ctx, args[0], nil)
	if err != nil {
		return err
	}
	defer conn.CloseNow()
	message := wsd.Binary(make([]byte, speedSize))
	var took []float64
	for began := time.Now(); time.Since(began) < speedTime; {
		at := time.Now()
		if err := conn.Send(ctx, message); err != nil {
			return err
		}
		m, err := conn.Receive(ctx)
		if err != nil {
			return err
		}
		m.Release()
		took = append(took, float64(time.Since(at)))
	}
	_, err = fmt.Println(median(took))
	return err
}
