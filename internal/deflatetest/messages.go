// messages.go makes messages as connections send them.

package deflatetest

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
)

// Talk is what one side sends over a connection: messages of all kinds, short and long, some of them repeated.
func Talk(seed uint64) [][]byte {
	random := rand.New(rand.NewPCG(seed, 1))
	var messages [][]byte
	for range 20 {
		size := random.IntN(3000)
		if random.IntN(5) == 0 {
			size = random.IntN(100000)
		}
		message := Sample(Kinds[random.IntN(len(Kinds))], size)
		messages = append(messages, message)
		if random.IntN(2) == 0 {
			messages = append(messages, message)
		}
	}
	return append(messages, nil, []byte("x"), Sample("text", 50))
}

// Trades is a JSON message of about size bytes, like those of a market's feed.
func Trades(seed uint64, size int) []byte {
	type trade struct {
		ID       int     `json:"id"`
		Symbol   string  `json:"symbol"`
		Price    float64 `json:"price"`
		Quantity int     `json:"quantity"`
		Side     string  `json:"side"`
		Time     string  `json:"time"`
	}
	random := rand.New(rand.NewPCG(seed, 3))
	feed := struct {
		Channel string  `json:"channel"`
		Trades  []trade `json:"trades"`
	}{Channel: "trades"}
	for {
		feed.Trades = append(feed.Trades, trade{
			random.IntN(1e6), []string{"AAPL", "GOOG", "MSFT", "NVDA"}[random.IntN(4)], float64(random.IntN(1e6)) / 100,
			random.IntN(1000), []string{"buy", "sell"}[random.IntN(2)], fmt.Sprintf("2026-11-22T15:%02d:%02d.%03dZ", random.IntN(60), random.IntN(60), random.IntN(1000)),
		})
		if data, _ := json.Marshal(feed); len(data) >= size {
			return data
		}
	}
}
