// header.go translates between the handshake of HTTP/1.1, which Dial makes and judges, and extended CONNECT (RFC 8441,
// section 5).

package h2

import (
	"context"
	"crypto/sha1"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// fieldOverhead is what a field counts besides its bytes (RFC 9113, section 6.5.2).
const fieldOverhead = 32

// onlyHTTP1 are the fields that the handshake has over HTTP/1.1 only, or that HTTP/2 forbids.
var onlyHTTP1 = []string{
	"host", "upgrade", "connection", "proxy-connection", "keep-alive", "transfer-encoding", "te", "content-length", "trailer",
	"sec-websocket-key",
}

// past is a deadline that ends what waits.
var past = time.Unix(1, 0)

// roundTrip performs one handshake on a stream of its own.
func (c *conn) roundTrip(req *http.Request) (*http.Response, error) {
	fields := requestFields(req)
	s, err := c.open(func(id, limit uint32) error { return c.writeHeader(id, limit, fields) })
	if err != nil {
		return nil, err
	}
	select {
	case <-s.answered:
	case <-req.Context().Done():
		_ = s.SetDeadline(past)
		_ = s.Close()
		return nil, context.Cause(req.Context())
	}
	c.mu.Lock()
	answer, err := s.answer, s.err
	c.mu.Unlock()
	if answer == nil {
		c.ended()
		return nil, err
	}
	return c.response(req, s, answer), nil
}

// requestFields returns the header of a handshake.
func requestFields(req *http.Request) []hpack.HeaderField {
	authority := req.Host
	if authority == "" {
		authority = req.URL.Host
	}
	fields := []hpack.HeaderField{
		{Name: ":method", Value: http.MethodConnect},
		{Name: ":protocol", Value: "websocket"},
		{Name: ":scheme", Value: req.URL.Scheme},
		{Name: ":authority", Value: authority},
		{Name: ":path", Value: req.URL.RequestURI()},
	}
	agent := false
	for name, values := range req.Header {
		lower := strings.ToLower(name)
		if slices.Contains(onlyHTTP1, lower) {
			continue
		}
		agent = agent || lower == "user-agent"
		for _, value := range values {
			if value == "" && lower == "user-agent" {
				continue // which is how net/http is asked to send none
			}
			secret := lower == "authorization" || lower == "cookie"
			fields = append(fields, hpack.HeaderField{Name: lower, Value: value, Sensitive: secret})
		}
	}
	if !agent {
		fields = append(fields, hpack.HeaderField{Name: "user-agent", Value: "Go-http-client/2.0"})
	}
	return fields
}

// writeHeader writes the HEADERS of a request, and what does not fit as CONTINUATION.
func (c *conn) writeHeader(id, limit uint32, fields []hpack.HeaderField) error {
	size := 0
	for _, f := range fields {
		size += len(f.Name) + len(f.Value) + fieldOverhead
	}
	if int64(size) > int64(limit) {
		return fmt.Errorf("%w: the server takes %d bytes, the request has %d", ErrHeaderTooLarge, limit, size)
	}
	c.out.block.Reset()
	for _, f := range fields {
		if err := c.out.encoder.WriteField(f); err != nil {
			return err
		}
	}
	block := c.out.block.Bytes()
	first := block[:min(len(block), maxFrame)]
	rest := block[len(first):]
	err := c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: first, EndHeaders: len(rest) == 0})
	for err == nil && len(rest) > 0 {
		piece := rest[:min(len(rest), maxFrame)]
		rest = rest[len(piece):]
		err = c.framer.WriteContinuation(id, len(rest) == 0, piece)
	}
	return err
}

// response makes of an answer what Dial would have got over HTTP/1.1.
func (c *conn) response(req *http.Request, s *stream, answer *http2.MetaHeadersFrame) *http.Response {
	status, _ := strconv.Atoi(answer.PseudoValue("status")) // three digits
	header := make(http.Header)
	for _, f := range answer.RegularFields() {
		name := http.CanonicalHeaderKey(f.Name)
		header[name] = append(header[name], f.Value)
	}
	if status/100 == 2 {
		status = http.StatusSwitchingProtocols
		header["Upgrade"], header["Connection"] = []string{"websocket"}, []string{"Upgrade"}
		header["Sec-Websocket-Accept"] = []string{acceptOf(req.Header)}
	}
	var body io.ReadCloser = s
	if status != http.StatusSwitchingProtocols {
		body = &boundedBody{s, context.AfterFunc(req.Context(), func() { _ = s.SetDeadline(past) })}
	}
	resp := &http.Response{
		Status: strconv.Itoa(status) + " " + http.StatusText(status), StatusCode: status,
		Proto: "HTTP/2.0", ProtoMajor: 2, Header: header, Body: body, ContentLength: -1, Request: req,
	}
	if secure, ok := c.raw.(interface{ ConnectionState() tls.ConnectionState }); ok {
		state := secure.ConnectionState()
		resp.TLS = &state
	}
	return resp
}

// acceptOf returns the answer to the key that Dial has made (RFC 6455, section 4.2.2), whose place :protocol takes.
func acceptOf(request http.Header) string {
	const guid = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
	for name, values := range request {
		if strings.EqualFold(name, "Sec-WebSocket-Key") && len(values) > 0 {
			sum := sha1.Sum([]byte(values[0] + guid))
			return base64.StdEncoding.EncodeToString(sum[:])
		}
	}
	return ""
}

// boundedBody is what a server says that refuses, as long as the request's context permits it to be read.
type boundedBody struct {
	*stream
	forget func() bool
}

func (b *boundedBody) Close() error {
	b.forget()
	return b.stream.Close()
}
