// jar.go keeps cookies in a file of the format that curl and browsers' exports have: seven fields with tabs between.

package client

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Jar is a cookie jar that can be saved. It is safe for concurrent use.
type Jar struct {
	path string
	jar  *cookiejar.Jar

	mu      sync.Mutex
	entries []entry // guarded by mu
}

// entry is a line of the file.
type entry struct {
	domain     string // without a leading dot
	subdomains bool
	path       string
	secure     bool
	httpOnly   bool
	expires    int64 // Unix time; 0 is for a session
	name       string
	value      string
}

const httpOnlyPrefix = "#HttpOnly_"

// OpenJar reads a file, which need not exist yet.
func OpenJar(path string) (*Jar, error) {
	inner, err := cookiejar.New(nil)
	if err != nil {
		return nil, err
	}
	j := &Jar{path: path, jar: inner}
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return j, nil
	}
	if err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(bytes.NewReader(content))
	lines.Buffer(nil, 1<<20)
	for number := 1; lines.Scan(); number++ {
		line := lines.Text()
		if strings.TrimSpace(line) == "" || strings.HasPrefix(line, "#") && !strings.HasPrefix(line, httpOnlyPrefix) {
			continue
		}
		e, err := parseEntry(line)
		if err != nil {
			return nil, fmt.Errorf("%s, line %d: %w", path, number, err)
		}
		j.restore(e)
	}
	return j, lines.Err()
}

func parseEntry(line string) (e entry, err error) {
	line, e.httpOnly = strings.CutPrefix(line, httpOnlyPrefix)
	fields := strings.Split(line, "\t")
	if len(fields) != 7 {
		return e, fmt.Errorf("expected 7 fields with tabs between, got %d", len(fields))
	}
	e.domain, e.path, e.name, e.value = strings.TrimPrefix(fields[0], "."), fields[2], fields[5], fields[6]
	e.subdomains, e.secure = fields[1] == "TRUE", fields[3] == "TRUE"
	if e.expires, err = strconv.ParseInt(fields[4], 10, 64); err != nil {
		return e, fmt.Errorf("expected the time of expiry as a number, got %q", fields[4])
	}
	return e, nil
}

// restore puts what was in the file into the jar.
func (j *Jar) restore(e entry) {
	if e.expires != 0 && time.Unix(e.expires, 0).Before(time.Now()) {
		return
	}
	cookie := &http.Cookie{Name: e.name, Value: e.value, Path: e.path, Secure: e.secure, HttpOnly: e.httpOnly}
	if e.subdomains {
		cookie.Domain = e.domain
	}
	if e.expires != 0 {
		cookie.Expires = time.Unix(e.expires, 0)
	}
	j.jar.SetCookies(&url.URL{Scheme: "https", Host: e.domain, Path: e.path}, []*http.Cookie{cookie})
	j.entries = append(j.entries, e)
}

// Cookies returns the cookies for a URL.
func (j *Jar) Cookies(u *url.URL) []*http.Cookie { return j.jar.Cookies(u) }

// SetCookies takes the cookies of an answer.
func (j *Jar) SetCookies(u *url.URL, cookies []*http.Cookie) {
	j.jar.SetCookies(u, cookies)
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, c := range cookies {
		e := entry{domain: u.Hostname(), path: c.Path, secure: c.Secure, httpOnly: c.HttpOnly, name: c.Name, value: c.Value}
		if domain := strings.ToLower(strings.TrimPrefix(c.Domain, ".")); domain != "" {
			if domain != e.domain && !strings.HasSuffix(e.domain, "."+domain) {
				continue // not this server's to set; the jar has ignored it, too
			}
			e.domain, e.subdomains = domain, true
		}
		if !strings.HasPrefix(e.path, "/") {
			e.path = u.Path[:strings.LastIndex(u.Path, "/")+1] // RFC 6265, section 5.1.4
			if len(e.path) > 1 {
				e.path = e.path[:len(e.path)-1]
			}
			if e.path == "" {
				e.path = "/"
			}
		}
		gone := c.MaxAge < 0
		switch {
		case c.MaxAge > 0:
			e.expires = time.Now().Add(time.Duration(c.MaxAge) * time.Second).Unix()
		case !c.Expires.IsZero():
			e.expires = c.Expires.Unix()
			gone = gone || c.Expires.Before(time.Now())
		}
		j.entries = slices.DeleteFunc(j.entries, func(old entry) bool {
			return old.domain == e.domain && old.path == e.path && old.name == e.name
		})
		if !gone {
			j.entries = append(j.entries, e)
		}
	}
}

// Save writes the file anew, readable by its owner alone.
func (j *Jar) Save() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	var b bytes.Buffer
	b.WriteString("# Netscape HTTP Cookie File\n")
	truth := func(set bool) string { return strings.ToUpper(strconv.FormatBool(set)) }
	for _, e := range j.entries {
		if strings.ContainsAny(e.name+e.value+e.path, "\t\n\r") {
			continue
		}
		if e.httpOnly {
			b.WriteString(httpOnlyPrefix)
		}
		if e.subdomains {
			b.WriteByte('.')
		}
		fmt.Fprintf(&b, "%s\t%s\t%s\t%s\t%d\t%s\t%s\n", e.domain, truth(e.subdomains), e.path, truth(e.secure), e.expires, e.name, e.value)
	}
	path := j.path
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target // a link stays one
	}
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return os.WriteFile(path, b.Bytes(), 0o600) // a device or a pipe is not replaced
	}
	temporary, err := os.CreateTemp(filepath.Dir(path), ".cookies-*")
	if err != nil {
		return err
	}
	_, err = temporary.Write(b.Bytes())
	err = errors.Join(err, temporary.Close())
	if err == nil {
		err = os.Rename(temporary.Name(), path)
	}
	if err != nil {
		os.Remove(temporary.Name())
	}
	return err
}
