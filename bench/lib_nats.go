//go:build linux

package main

// This file is package hub over NATS: by an embedded server that is alone, and by two of which the publisher is at one and the
// subscribers are at the other. Both are in one process, whose CPU time is that of both nodes together.

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/seed62836080/wsd"
	hubs "github.com/seed62836080/wsd/hub"
	"github.com/seed62836080/wsd/hub/natsbroker"
)

var aloneLibrary = library{
	name:   aloneName,
	module: "github.com/seed62836080/wsd/hub/natsbroker",
	only:   serveHub,
	serve:  func(listener net.Listener, r role) error { return serveNATS(listener, r, 1) },
	cannot: canAll,
}

var pairLibrary = library{
	name:   pairName,
	module: aloneLibrary.module,
	only:   serveHub,
	serve:  func(listener net.Listener, r role) error { return serveNATS(listener, r, 2) },
	cannot: canAll,
}

func serveNATS(listener net.Listener, r role, nodes int) error {
	brokers, err := joinNodes(nodes)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	serveTopics(mux, func(handler func(*wsd.Conn)) *wsd.Server { return &wsd.Server{Handler: handler} }, r, brokers)
	return http.Serve(listener, mux)
}

// joinNodes starts one embedded server, or two that have found each other.
func joinNodes(nodes int) (brokers []hubs.Broker, err error) {
	options := natsbroker.Options{NoHistory: true, Logger: slog.New(slog.DiscardHandler)}
	if nodes > 1 {
		options.Listen = "127.0.0.1:0"
	}
	var last *natsbroker.Broker
	for range nodes {
		if last != nil {
			options.Routes = []string{last.Addr()}
		}
		if last, err = natsbroker.Embedded(&options); err != nil {
			return nil, fmt.Errorf("bench: an embedded server: %w", err)
		}
		brokers = append(brokers, last)
	}
	for deadline := time.Now().Add(10 * time.Second); last.Stats().Routes < nodes-1; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			return nil, errors.New("bench: expected a route between two embedded servers within 10 s")
		}
	}
	return brokers, nil
}
