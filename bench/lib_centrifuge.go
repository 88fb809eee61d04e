//go:build linux

package main

// This file is centrifugal/centrifuge: a node with its broker in memory, and subscribers that speak its protocol in protobuf.

import (
	"context"
	"net"
	"net/http"
	"time"

	"github.com/centrifugal/centrifuge"
	centrifugal "github.com/centrifugal/protocol"

	"github.com/seed62836080/wsd"
)

var centrifugeLibrary = library{
	name:   "centrifuge",
	module: "github.com/centrifugal/centrifuge",
	only:   serveHub,
	serve:  serveCentrifuge,
	speaks: &protocol{greeting: centrifugeGreeting, piece: centrifugePiece},
	cannot: canAll,
}

// writeTimeout is for a write of 1 MiB on a machine that is busy with many: by default it is a second.
const writeTimeout = time.Minute

// centrifugeQuery is where the context of a connection has the query of its handshake's URL.
type centrifugeQuery struct{}

func serveCentrifuge(listener net.Listener, r role) error {
	all := newTopics(r)
	node, err := centrifuge.New(centrifuge.Config{ClientQueueMaxSize: hubQueue << 20})
	if err != nil {
		return err
	}
	node.OnConnecting(func(ctx context.Context, _ centrifuge.ConnectEvent) (centrifuge.ConnectReply, error) {
		query, _ := ctx.Value(centrifugeQuery{}).(string)
		mine, err := all.mine(query)
		if err != nil {
			return centrifuge.ConnectReply{}, err
		}
		subscriptions := make(map[string]centrifuge.SubscribeOptions)
		for _, channel := range mine {
			subscriptions[channel] = centrifuge.SubscribeOptions{}
		}
		return centrifuge.ConnectReply{
			Credentials:    &centrifuge.Credentials{},
			Subscriptions:  subscriptions,
			PingPongConfig: &centrifuge.PingPongConfig{PingInterval: -1},
		}, nil
	})
	if err := node.Run(); err != nil {
		return err
	}
	subscribers := centrifuge.NewWebsocketHandler(node, centrifuge.WebsocketConfig{WriteTimeout: writeTimeout})
	mux := http.NewServeMux()
	mux.HandleFunc("/sub", func(w http.ResponseWriter, r *http.Request) {
		ctx := context.WithValue(r.Context(), centrifugeQuery{}, r.URL.RawQuery)
		r.URL.RawQuery = "cf_protocol=protobuf"
		subscribers.ServeHTTP(w, r.WithContext(ctx))
	})
	mux.Handle("/pub", &wsd.Server{Handler: func(conn *wsd.Conn) {
		n := 0
		for message := range conn.Messages() {
			if _, err := node.Publish(all.channel(n), message.Data); err != nil {
				return
			}
			n++
		}
	}})
	return http.Serve(listener, mux)
}

// centrifugeGreeting is the command with which a client connects.
func centrifugeGreeting() ([]byte, error) {
	command := &centrifugal.Command{Id: 1, Connect: &centrifugal.ConnectRequest{}}
	encoded, err := centrifugal.NewProtobufCommandEncoder().Encode(command)
	if err != nil {
		return nil, err
	}
	return encoded, nil
}

// centrifugePiece is how long a publication is, with its length before it.
func centrifugePiece(channel string, message []byte) (uint64, error) {
	reply := &centrifugal.Reply{Push: &centrifugal.Push{Channel: channel, Pub: &centrifugal.Publication{Data: message}}}
	encoded, err := centrifugal.NewProtobufReplyEncoder().Encode(reply)
	if err != nil {
		return 0, err
	}
	encoder := centrifugal.GetDataEncoder(centrifugal.TypeProtobuf)
	defer centrifugal.PutDataEncoder(centrifugal.TypeProtobuf, encoder)
	if err := encoder.Encode(encoded); err != nil {
		return 0, err
	}
	return uint64(len(encoder.Finish())), nil
}
