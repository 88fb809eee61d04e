// Package middleware shows the answer to a protocol switch to what wraps net/http's ResponseWriter. Such middleware counts
// statuses and adds header fields, such as a session's cookie, when WriteHeader is called, and would otherwise never see
// the answer of a connection that is hijacked.
package middleware

import (
	"net/http"
	"reflect"
	"time"
)

// Announcement is a status that middleware is shown before its connection is taken over.
type Announcement struct {
	outer http.ResponseWriter
	inner netHTTPWriter
	sent  bool
}

// Around returns how to announce a status to a ResponseWriter that is known to wrap net/http's own. It returns nil if w is
// no such writer, or cannot be hijacked.
func Around(w http.ResponseWriter) *Announcement {
	inner := below(w)
	if !inner.found() || !hijackable(w) {
		return nil
	}
	return &Announcement{outer: w, inner: inner}
}

// Announce calls WriteHeader with 101. If middleware passes that on at once, net/http sends the answer, by the deadline
// unless that is zero. The error says why it could not be sent.
func (a *Announcement) Announce(deadline time.Time) error {
	_ = a.inner.SetWriteDeadline(deadline)
	a.outer.WriteHeader(http.StatusSwitchingProtocols)
	if a.sent = a.inner.wroteHeader.Bool(); !a.sent {
		return nil // some middleware waits for a body that does not come
	}
	return a.inner.FlushError()
}

// Sent reports whether net/http has sent the answer, so that no other may follow.
func (a *Announcement) Sent() bool { return a.sent }

// Close ends the connection below all middleware, if that does not hand it over.
func (a *Announcement) Close() {
	if conn, _, err := a.inner.Hijack(); err == nil {
		_ = conn.Close()
	}
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
	if isOwn(w) {
		return own // as most are: what follows takes time, and stack that a goroutine keeps
	}
	for w = unwrap(w); w != nil; w = unwrap(w) {
		if !isOwn(w) {
			continue
		}
		hijacker, hijacks := w.(http.Hijacker)
		flusher, flushes := w.(flusher)
		if wrote := reflect.ValueOf(w).Elem().FieldByName("wroteHeader"); hijacks && flushes && wrote.Kind() == reflect.Bool {
			own = netHTTPWriter{hijacker, flusher, wrote}
		}
		break
	}
	return own
}

// isOwn reports whether w is net/http's writer for HTTP/1.
func isOwn(w http.ResponseWriter) bool {
	t := reflect.TypeOf(w)
	return t != nil && t.Kind() == reflect.Pointer && t.Elem().PkgPath() == "net/http" && t.Elem().Name() == "response"
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
