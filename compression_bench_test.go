// compression_bench_test.go measures messages that are compressed on their way there and back, over loopback TCP.

package wsd_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
)

// feedJSON is about size bytes of JSON like those of a market's feed.
func feedJSON(seed uint64, size int) []byte {
	random := rand.New(rand.NewPCG(seed, 6))
	var trades []map[string]any
	for {
		trades = append(trades, map[string]any{
			"id": random.IntN(1e6), "symbol": []string{"AAPL", "GOOG", "MSFT", "NVDA"}[random.IntN(4)], "price": float64(random.IntN(1e6)) / 100,
			"quantity": random.IntN(1000), "side": []string{"buy", "sell"}[random.IntN(2)], "time": fmt.Sprintf("2026-11-22T15:%02d:%02d.%03dZ", random.IntN(60), random.IntN(60), random.IntN(1000)),
		})
		if data, _ := json.Marshal(map[string]any{"channel": "trades", "trades": trades}); len(data) >= size {
			return data
		}
	}
}

// BenchmarkCompressedEcho has a client send a message and wait for its echo: two messages compressed and two
// decompressed for each operation. Connections take turns, so that with takeover and many of them none finds its
// compressor again.
func BenchmarkCompressedEcho(b *testing.B) {
	var feed, text [64]wsd.Message
	for n := range feed {
		feed[n] = wsd.Message{Type: wsd.TextMessage, Data: feedJSON(uint64(n), 1<<10)}
		text[n] = wsd.Message{Type: wsd.TextMessage, Data: prose(uint64(n), 32<<10)}
	}
	for _, load := range []struct {
		name     string
		messages [64]wsd.Message
	}{{"1KiB-JSON", feed}, {"32KiB-text", text}} {
		for _, mode := range []struct {
			name        string
			compression *wsd.Compression
		}{{"takeover", &wsd.Compression{}}, {"none", &noTakeover}, {"off", nil}} {
			for _, connections := range []int{1, 64} {
				b.Run(fmt.Sprintf("%s/%s/%d", load.name, mode.name, connections), func(b *testing.B) {
					var clients []*wsd.Conn
					for range connections {
						near, far := tcpPair(b)
						cfg := wsd.Config{Compression: mode.compression}
						go echo(wsd.NewConn(far, wsd.ServerRole, cfg))
						clients = append(clients, wsd.NewConn(near, wsd.ClientRole, cfg))
					}
					ctx := context.Background()
					n := 0
					b.ReportAllocs()
					for b.Loop() {
						client := clients[n%connections]
						require.NoError(b, client.Send(ctx, load.messages[n/connections%64]))
						if _, ok := <-client.Messages(); !ok {
							b.Fatal(client.CloseEvent().Err)
						}
						n++
					}
					for _, client := range clients {
						require.NoError(b, client.Close(wsd.StatusNormalClosure, ""))
					}
				})
			}
		}
	}
}
