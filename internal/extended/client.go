// client.go translates between the handshake of HTTP/1.1, which Dial makes and judges, and extended CONNECT (RFC 8441,
// section 5), in which :protocol takes the place of Upgrade and of the key.

package extended

import (
	"crypto/sha1"
	"encoding/base64"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// onlyHTTP1 are the fields that the handshake has over HTTP/1.1 only, or that later versions forbid.
var onlyHTTP1 = []string{
	"host", "upgrade", "connection", "proxy-connection", "keep-alive", "transfer-encoding", "te", "content-length", "trailer",
	"sec-websocket-key",
}

// Translates reports whether the request of a handshake over HTTP/1.1 has the field in a later version too.
func Translates(name string) bool { return !slices.Contains(onlyHTTP1, strings.ToLower(name)) }

// IsHandshake reports whether r is a handshake that Dial makes.
func IsHandshake(r *http.Request) bool {
	return strings.EqualFold(r.Header.Get("Upgrade"), "websocket")
}

// Translate makes of an answer to extended CONNECT what Dial would have got over HTTP/1.1 for the request r.
func Translate(resp *http.Response, r *http.Request) {
	resp.Request = r
	if resp.StatusCode/100 == 2 {
		resp.StatusCode = http.StatusSwitchingProtocols
		resp.Header["Upgrade"], resp.Header["Connection"] = []string{"websocket"}, []string{"Upgrade"}
		resp.Header["Sec-Websocket-Accept"] = []string{acceptOf(r.Header)}
	}
	resp.Status = strconv.Itoa(resp.StatusCode) + " " + http.StatusText(resp.StatusCode)
}

// acceptOf returns the answer to the key of a request (RFC 6455, section 4.2.2).
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
