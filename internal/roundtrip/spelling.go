// spelling.go keeps the names of a client's header fields as the caller spells them. net/http sends a name as it is, but
// looks for canonical ones.

package roundtrip

import (
	"maps"
	"net/http"
	"slices"
)

// respelling sends the names of header fields as the caller spells them: servers exist that mind. It comes last, below all
// of net/http that looks for canonical names.
type respelling struct {
	http.RoundTripper
	names map[string][]string // the caller's names by the canonical one, one for each value
}

// Respell returns a RoundTripper that restores the names in header ahead of next.
func Respell(next http.RoundTripper, header http.Header) http.RoundTripper {
	names := make(map[string][]string, len(header))
	for _, name := range slices.Sorted(maps.Keys(header)) {
		canonical := http.CanonicalHeaderKey(name)
		names[canonical] = append(names[canonical], slices.Repeat([]string{name}, len(header[name]))...)
	}
	if _, own := next.(*Transport); !own { // another may ask for compression besides
		delete(names, "Accept-Encoding")
	}
	return respelling{next, names}
}

// RoundTrip performs one request with the caller's names.
func (r respelling) RoundTrip(req *http.Request) (*http.Response, error) {
	out := req.WithContext(req.Context()) // a copy: a RoundTripper does not change its request
	out.Header = make(http.Header, len(req.Header)+1)
	for name, values := range req.Header {
		spelled := r.names[name]
		if len(values) == 0 {
			out.Header[name] = values // which tells net/http not to add a field of its own
		}
		for i, value := range values {
			if len(spelled) > 0 {
				name = spelled[min(i, len(spelled)-1)] // a jar or a policy may have changed the values
			}
			out.Header[name] = append(out.Header[name], value)
		}
	}
	if _, canonical := out.Header["User-Agent"]; !canonical && spells(out.Header, "User-Agent") {
		out.Header["User-Agent"] = []string{""} // keeps net/http from adding its own
	}
	return r.RoundTripper.RoundTrip(out)
}

// spells reports whether h has the field with a canonical name, spelled in any way.
func spells(h http.Header, name string) bool {
	for given := range h {
		if http.CanonicalHeaderKey(given) == name {
			return true
		}
	}
	return false
}
