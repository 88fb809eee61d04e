// environment.go tells a program of the request, as RFC 3875 (CGI) has it.

package serve

import (
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
)

func attr(key, value string) slog.Attr { return slog.String(key, value) }

// environmentOf returns the environment of a program: this process's, and what is known of the request.
func environmentOf(r *http.Request) []string {
	remote, remotePort, _ := net.SplitHostPort(r.RemoteAddr)
	name, port, err := net.SplitHostPort(r.Host)
	if err != nil {
		name = r.Host
		if local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
			_, port, _ = net.SplitHostPort(local.String())
		}
	}
	env := []string{
		"GATEWAY_INTERFACE=CGI/1.1", "SERVER_SOFTWARE=wsd", "SERVER_PROTOCOL=" + r.Proto, "REQUEST_METHOD=" + r.Method,
		"SERVER_NAME=" + name, "SERVER_PORT=" + port, "REMOTE_ADDR=" + remote, "REMOTE_HOST=" + remote, "REMOTE_PORT=" + remotePort,
		"SCRIPT_NAME=", "PATH_INFO=" + r.URL.Path, "QUERY_STRING=" + r.URL.RawQuery, "REQUEST_URI=" + r.RequestURI,
	}
	if r.TLS != nil {
		env = append(env, "HTTPS=on")
	}
	if user, _, ok := r.BasicAuth(); ok {
		// The password is in HTTP_AUTHORIZATION for nobody: RFC 3875, section 4.1.18, has it left out.
		env = append(env, "AUTH_TYPE=Basic", "REMOTE_USER="+user)
	}
	for field, values := range r.Header {
		switch field {
		case "Proxy", "Authorization": // HTTP_PROXY would be taken for the setting of that name
			continue
		}
		key := "HTTP_" + strings.ToUpper(strings.ReplaceAll(field, "-", "_"))
		separator := ", "
		if field == "Cookie" {
			separator = "; "
		}
		env = append(env, key+"="+strings.Join(values, separator))
	}
	for i, variable := range env {
		env[i] = strings.ReplaceAll(variable, "\x00", "")
	}
	return append(os.Environ(), env...)
}
