// announce.go shows a server's 101 to middleware. What wraps net/http's ResponseWriter counts statuses and adds header
// fields, such as a session's cookie, when WriteHeader is called, and would otherwise never see the answer.

package wsd

import (
	"maps"
	"net/http"
	"reflect"
	"slices"
	"time"
)

// announcement is a 101 that middleware has been shown.
type announcement struct {
	inner netHTTPWriter
	sent  bool // by net/http, which middleware has passed it on to
}

// announce calls WriteHeader of a ResponseWriter that is known to wrap net/http's own, with the answer in its Header. It
// returns nil if w is no such writer, or cannot be hijacked, and otherwise also why an answer could not be sent.
func (o *AcceptOptions) announce(w http.ResponseWriter, key string, agreed *agreement) (*announcement, error) {
	inner := below(w)
	if !inner.found() || !hijackable(w) {
		return nil, nil
	}
	h := w.Header()
	maps.DeleteFunc(h, func(name string, _ []string) bool { return isHandshakeField(name) })
	h["Upgrade"], h["Connection"] = []string{"websocket"}, []string{"Upgrade"}
	h[wireAccept] = []string{string(appendAccept(nil, key))}
	if agreed.subprotocol != "" {
		h[wireProtocol] = []string{agreed.subprotocol}
	}
	if agreed.extensions != "" {
		h[wireExtensions] = []string{agreed.extensions}
	}
	for name, values := range o.Header {
		h[name] = slices.Concat(h[name], values)
	}
	var deadline time.Time
	if timeout := durationOr(o.HandshakeTimeout, defaultHandshakeTimeout); timeout > 0 {
		deadline = time.Now().Add(timeout)
	}
	_ = inner.SetWriteDeadline(deadline)
	w.WriteHeader(http.StatusSwitchingProtocols)
	if !inner.wroteHeader.Bool() {
		return &announcement{inner, false}, nil // some middleware waits for a body that does not come
	}
	return &announcement{inner, true}, inner.FlushError()
}

// netHTTPWriter is net/http's own ResponseWriter for HTTP/1.
type netHTTPWriter struct {
	http.Hijacker
	flusher
	wroteHeader reflect.Value // a bool that net/http keeps up to date, not valid if there is no such writer
}

type flusher interface {
	SetWriteDeadline(time.Time) error
	FlushError() error
}

func (w *netHTTPWriter) found() bool { return w.wroteHeader.IsValid() }

// below returns net/http's writer below w, if that is to be found. It is not if w is that writer itself.
//
// Whether middleware passes a status on at once cannot be told from outside, and an answer must be sent once, neither
// twice nor never. So this looks at what net/http's writer notes for itself. Without that note, middleware is not told.
func below(w http.ResponseWriter) (own netHTTPWriter) {
	for w = unwrap(w); w != nil; w = unwrap(w) {
		v := reflect.ValueOf(w)
		if v.Kind() != reflect.Pointer || v.Type().Elem().PkgPath() != "net/http" || v.Type().Elem().Name() != "response" {
			continue
		}
		hijacker, hijacks := w.(http.Hijacker)
		flusher, flushes := w.(flusher)
		if wrote := v.Elem().FieldByName("wroteHeader"); hijacks && flushes && wrote.Kind() == reflect.Bool {
			own = netHTTPWriter{hijacker, flusher, wrote}
		}
		break
	}
	return own
}

// unwrap returns what w wraps, by its method Unwrap or as an embedded ResponseWriter, or nil.
func unwrap(w http.ResponseWriter) http.ResponseWriter {
	if outer, ok := w.(interface{ Unwrap() http.ResponseWriter }); ok {
		return outer.Unwrap()
	}
	v := reflect.Indirect(reflect.ValueOf(w))
	if v.Kind() != reflect.Struct {
		return nil
	}
	field, ok := v.Type().FieldByName("ResponseWriter")
	if !ok {
		return nil
	}
	embedded, err := v.FieldByIndexErr(field.Index)
	if err != nil || !embedded.CanInterface() {
		return nil
	}
	inner, _ := embedded.Interface().(http.ResponseWriter)
	return inner
}

// hijackable reports whether http.ResponseController finds a Hijack.
func hijackable(w http.ResponseWriter) bool {
	for {
		if _, ok := w.(http.Hijacker); ok {
			return true
		}
		outer, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return false
		}
		w = outer.Unwrap()
	}
}
