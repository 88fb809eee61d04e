package wsd

import "net/http"

type AcceptOptions struct{ Config }

func Accept(w http.ResponseWriter, r *http.Request, opts *AcceptOptions) (*Conn, error) {
	return nil, nil
}
