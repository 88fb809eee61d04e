//go:build linux

package main

// This file is centrifugal/centrifuge: a node with its broker in memory, and subscribers that speak its protocol in protobuf.

import (
	"context"
	"net"
	"net/http"

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

func serveCentrifuge(listener net.Listener, _ role) error {
	node, err := centrifuge.New(centrifuge.Config{ClientQueueMaxSize: hubQueue << 20})
	if err != nil {
		return err
	}
	node.OnConnecting(func(context.Context, centrifuge.ConnectEvent) (centrifuge.ConnectReply, error) {
		return centrifuge.ConnectReply{
			Credentials:    &centrifuge.Credentials{},
			Subscriptions:  map[string]centrifuge.SubscribeOptions{topic: {}},
			PingPongConfig: &centrifuge.PingPongConfig{PingInterval: -1},
		}, nil
	})
	if err := node.Run(); err != nil {
		return err
	}
	subscribers := centrifuge.NewWebsocketHandler(node, centrifuge.WebsocketConfig{})
	mux := http.NewServeMux()
	mux.HandleFunc("/sub", func(w http.ResponseWriter, r *http.Request) {
		r.URL.RawQuery = "cf_protocol=protobuf"
		subscribers.ServeHTTP(w, r)
	})
	mux.Handle("/pub", &wsd.Server{Handler: func(conn *wsd.Conn) {
		for message := range conn.Messages() {
			if _, err := node.Publish(topic, message.Data); err != nil {
				return
			}
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
func centrifugePiece(message []byte) (uint64, error) {
	reply := &centrifugal.Reply{Push: &centrifugal.Push{Channel: topic, Pub: &centrifugal.Publication{Data: message}}}
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
