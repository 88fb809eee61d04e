//go:build unix

// large_bench_test.go compares messages that are streamed with whole ones of 1 MiB, in the same bytes.

package wsd_test

import (
	"bytes"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
)

// passage is a way to carry many bytes over a connection.
type passage struct {
	send    func(b *testing.B, from *wsd.Conn, mebibyte []byte, times int) error
	receive func(b *testing.B, to *wsd.Conn, size int) error
}

// onlyReader and onlyWriter hide what else a source or a sink can do, as a file or a digest does not have it.
type onlyReader struct{ io.Reader }
type onlyWriter struct{ io.Writer }

// source returns a reader of mebibyte, so many times.
func source(mebibyte []byte, times int) io.Reader {
	return onlyReader{io.LimitReader(&pattern{block: mebibyte}, int64(times)*int64(len(mebibyte)))}
}

// drain copies what r has by 32 KiB.
func drain(r io.Reader) (int64, error) { return io.Copy(onlyWriter{io.Discard}, onlyReader{r}) }

// wholeMessages carries messages of 1 MiB, which are read from a source and copied out again, or neither.
func wholeMessages(copied bool) passage {
	return passage{
		func(b *testing.B, from *wsd.Conn, mebibyte []byte, times int) error {
			data, r := mebibyte, source(mebibyte, times)
			if copied {
				data = make([]byte, len(mebibyte))
			}
			for range times {
				if copied {
					if _, err := io.ReadFull(r, data); err != nil {
						return err
					}
				}
				if err := from.Send(b.Context(), wsd.Binary(data)); err != nil {
					return err
				}
			}
			return nil
		},
		func(b *testing.B, to *wsd.Conn, size int) error {
			for size > 0 {
				m, err := to.Receive(b.Context())
				if err != nil {
					return err
				}
				size -= len(m.Data)
				if copied {
					if _, err := drain(bytes.NewReader(m.Data)); err != nil {
						return err
					}
				}
				m.Release()
			}
			return nil
		}}
}

// streamedMessage carries one message that is written by write and read by read.
func streamedMessage(write func(w io.Writer, mebibyte []byte, times int) error, read func(body io.Reader) (int64, error)) passage {
	return passage{
		func(b *testing.B, from *wsd.Conn, mebibyte []byte, times int) error {
			w := from.Writer(b.Context(), wsd.BinaryMessage, nil)
			if err := write(w, mebibyte, times); err != nil {
				return err
			}
			return w.Close()
		},
		func(b *testing.B, to *wsd.Conn, size int) error {
			m, err := to.Receive(b.Context())
			if err != nil {
				return err
			}
			n, err := read(m.Body())
			if err == nil && n != int64(size) {
				err = io.ErrUnexpectedEOF
			}
			return err
		}}
}

func writeBy(size int) func(w io.Writer, mebibyte []byte, times int) error {
	return func(w io.Writer, mebibyte []byte, times int) error {
		for range times {
			for piece := range slices.Chunk(mebibyte, size) {
				if _, err := w.Write(piece); err != nil {
					return err
				}
			}
		}
		return nil
	}
}

func copyTo(w io.Writer, mebibyte []byte, times int) error {
	_, err := io.Copy(w, source(mebibyte, times))
	return err
}

func writeTo(body io.Reader) (int64, error) { return io.Copy(onlyWriter{io.Discard}, body) }

// BenchmarkLarge carries bytes over one connection, both ways at once, and compares each way of streaming them with whole
// messages in turns: of-whole is the rate as a part of theirs, cpu-of-whole the processor time. They come from a source and go
// to a sink if they do in what is compared.
func BenchmarkLarge(b *testing.B) {
	for _, agreed := range []*wsd.Compression{nil, {}} {
		name, mebibyte, times := "plain", bytes.Repeat([]byte("0123456789abcdef"), 1<<16), 512
		if agreed != nil {
			name, mebibyte, times = "compressed", prose(1, 1<<20), 16
		}
		for _, row := range []struct {
			name            string
			whole, streamed passage
		}{
			{"Write of 1 MiB, WriteTo", wholeMessages(false), streamedMessage(writeBy(1<<20), writeTo)},
			{"Write of 32 KiB, WriteTo", wholeMessages(false), streamedMessage(writeBy(32<<10), writeTo)},
			{"ReadFrom, Read of 32 KiB", wholeMessages(true), streamedMessage(copyTo, drain)},
		} {
			b.Run(name+"/"+row.name, func(b *testing.B) {
				var rates, cpus []float64
				b.SetBytes(2 * int64(times) << 20)
				b.ReportAllocs()
				for b.Loop() {
					wholeTime, wholeCPU := carry(b, row.whole, wsd.Config{Compression: agreed}, mebibyte, times)
					took, cpu := carry(b, row.streamed, wsd.Config{Compression: agreed, StreamAbove: 64 << 10}, mebibyte, times)
					rates = append(rates, wholeTime.Seconds()/took.Seconds())
					cpus = append(cpus, cpu.Seconds()/wholeCPU.Seconds())
				}
				slices.Sort(rates)
				slices.Sort(cpus)
				b.ReportMetric(rates[len(rates)/2], "of-whole")
				b.ReportMetric(cpus[len(cpus)/2], "cpu-of-whole")
			})
		}
	}
}

// carry carries mebibyte so many times, both ways at once.
func carry(b *testing.B, way passage, cfg wsd.Config, mebibyte []byte, times int) (took, cpu time.Duration) {
	cfg.MaxMessageSize = -1
	near, far := tcpPair(b)
	client, server := wsd.NewConn(near, wsd.ClientRole, cfg), wsd.NewConn(far, wsd.ServerRole, cfg)
	defer server.CloseNow()
	defer client.CloseNow()
	failed := make(chan error, 4)
	begun, before := time.Now(), cpuTime(b)
	for _, sides := range [][2]*wsd.Conn{{client, server}, {server, client}} {
		go func() { failed <- way.send(b, sides[0], mebibyte, times) }()
		go func() { failed <- way.receive(b, sides[1], times*len(mebibyte)) }()
	}
	for range 4 {
		require.NoError(b, <-failed)
	}
	return time.Since(begun), cpuTime(b) - before
}
