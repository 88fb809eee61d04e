// dial.go is how a server is reached: addresses given by hand, unix sockets.

package client

import (
	"context"
	"net"
	"strings"
	"time"
)

type dialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// dialFunc returns the function that connects.
func (o *Options) dialFunc() (dialFunc, error) {
	dialer := &net.Dialer{KeepAlive: 30 * time.Second}
	if o.unix != "" {
		return func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", o.unix) // @ begins an abstract name of Linux
		}, nil
	}
	instead := make(map[string]string)
	for _, rule := range o.resolve {
		from, to, err := splitResolve(rule)
		if err != nil {
			return nil, err
		}
		instead[from] = to
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		if to := instead[strings.ToLower(address)]; to != "" {
			address = to
		}
		return dialer.DialContext(ctx, network, address)
	}, nil
}
