package policytest

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/postern-mta/postern/hooks/lua"
)

// service is what answers at an address of the network that scripts see.
type service struct {
	address string // host:port
	secure  bool
	url     string // of t:http, up to a "*"; "" of t:tcp
	open    bool   // the URL ended in "*"
	answer  any    // of t:http, or the script of t:tcp
}

// http is t:http(url, reply): what GET and POST of the URL, or of every URL that
// begins so where it ends in "*", get. reply is a table of status, headers and body
// (a table goes as JSON), a text, a status, { fail = "timeout" }, or a function of
// the request that returns one of those.
func (h *harness) http(args []any) (any, error) {
	raw, err := text(args, 0)
	if err != nil {
		return nil, err
	}
	if len(args) != 2 {
		return nil, errors.New(`write t:http("https://host/path", reply)`)
	}
	s := service{answer: args[1]}
	s.url, s.open = strings.CutSuffix(raw, "*")
	u, err := url.Parse(s.url)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("%q is no URL of http or https", raw)
	}
	if u.Path == "" {
		u.Path = "/"
	}
	s.url, s.secure = u.String(), u.Scheme == "https"
	port := u.Port()
	if port == "" {
		port = map[bool]string{false: "80", true: "443"}[s.secure]
	}
	s.address = net.JoinHostPort(u.Hostname(), port)
	if _, isFunction := s.answer.(*lua.Callback); !isFunction {
		if _, err := responseOf(s.answer); err != nil {
			if _, fails := err.(*failing); !fails {
				return nil, err
			}
		}
	}
	h.addService(s)
	return nil, nil
}

// tcp is t:tcp("host:port", script): a server of lines. script is a function of a
// line that returns the text to answer with, nil to hang up; or a table with
// greeting =, and for each line that comes a text to answer with or
// { expect = pattern, send = text }; or { fail = "refused" }.
func (h *harness) tcp(args []any) (any, error) {
	address, err := text(args, 0)
	if err != nil {
		return nil, err
	}
	if _, _, err := net.SplitHostPort(address); err != nil || len(args) < 2 {
		return nil, errors.New(`write t:tcp("host:port", script)`)
	}
	s := service{address: address, answer: args[1]}
	if len(args) > 2 {
		how, err := table(args, 2)
		if err != nil {
			return nil, err
		}
		s.secure = how["tls"] == true
	}
	if _, isFunction := s.answer.(*lua.Callback); !isFunction {
		if _, err := linesOf(s.answer); err != nil {
			if _, fails := err.(*failing); !fails {
				return nil, err
			}
		}
	}
	h.addService(s)
	return nil, nil
}

// addService takes a service in, in the place of one for the same.
func (h *harness) addService(s service) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.web = slices.DeleteFunc(h.web, func(o service) bool {
		return o.address == s.address && o.url == s.url && o.open == s.open
	})
	h.web = append(h.web, s)
}

// failing is a connection or an answer that does not come about.
type failing struct{ how string }

func (f *failing) Error() string { return f.how }

// failOf reads { fail = "timeout" }.
func failOf(v any) (*failing, error) {
	t, _ := v.(map[string]any)
	how, ok := t["fail"]
	if !ok {
		return nil, nil
	}
	switch how {
	case "timeout", "refused", "closed":
		return &failing{how.(string)}, nil
	}
	return nil, errors.New(`fail is "timeout", "refused" or "closed"`)
}

// dial is how scripts reach the network.
func (h *harness) dial(ctx context.Context, _, address string) (net.Conn, error) {
	there := h.servicesAt(address)
	if len(there) == 0 {
		return nil, fmt.Errorf("nothing answers at %s in this test: t:http and t:tcp say what does", address)
	}
	var fails *failing
	for _, s := range there {
		f, _ := failOf(s.answer)
		if f == nil {
			fails = nil
			break
		}
		fails = f
	}
	if fails != nil && fails.how != "closed" {
		return nil, h.failure(ctx, fails)
	}
	near, far := net.Pipe()
	h.serving.Go(func() {
		defer far.Close()
		stop := context.AfterFunc(h.ctx, func() { _ = far.Close() })
		defer stop()
		h.serve(far, there)
	})
	h.mu.Lock()
	defer h.mu.Unlock()
	h.dialled = append(h.dialled, near, far)
	return near, nil
}

// servicesAt lists what answers at an address now.
func (h *harness) servicesAt(address string) []service {
	h.mu.Lock()
	defer h.mu.Unlock()
	var there []service
	for _, s := range h.web {
		if s.address == address {
			there = append(there, s)
		}
	}
	return there
}

// failure is the error of a connection that fails so. Waiting passes on the test's
// clock.
func (h *harness) failure(ctx context.Context, f *failing) error {
	if f.how == "refused" {
		return &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
	if until, ok := ctx.Deadline(); ok {
		h.pass(waited(time.Until(until)))
	}
	return &net.OpError{Op: "dial", Net: "tcp", Err: os.ErrDeadlineExceeded}
}

// waited is the time that was meant to be waited, of which a little is gone already.
func waited(left time.Duration) time.Duration {
	step := 100 * time.Millisecond
	if left > 2*time.Second {
		step = time.Second
	}
	return max((left + step - 1).Truncate(step), 0)
}

// serve answers on one connection.
func (h *harness) serve(nc net.Conn, there []service) {
	if there[0].secure {
		host, _, _ := net.SplitHostPort(there[0].address)
		t := tls.Server(nc, h.options.secrets.serverOf(host))
		if t.HandshakeContext(h.ctx) != nil {
			return
		}
		nc = t
	}
	if there[0].url == "" {
		h.serveLines(nc, there[0].answer)
		return
	}
	br := bufio.NewReader(nc)
	for {
		q, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		body, err := io.ReadAll(io.LimitReader(q.Body, maxHTTP))
		if err != nil {
			return
		}
		a, err := h.answer(q, body, h.servicesAt(there[0].address))
		if err != nil {
			return
		}
		a.Request = q
		if a.Write(nc) != nil {
			return
		}
	}
}

// maxHTTP bounds a request of a script.
const maxHTTP = 8 << 20

// answer finds the answer to a request.
func (h *harness) answer(q *http.Request, body []byte, there []service) (*http.Response, error) {
	u := *q.URL
	u.Host, u.Scheme = q.Host, "http"
	if there[0].secure {
		u.Scheme = "https"
	}
	full := u.String()
	u.RawQuery = ""
	bare := u.String()
	best := -1
	for i, s := range there {
		exact := s.url == full || s.url == bare && !s.open
		if s.open && strings.HasPrefix(full, s.url) && (best < 0 || there[best].open && len(s.url) > len(there[best].url)) || exact {
			best = i
		}
	}
	if best < 0 {
		return responseOf(map[string]any{"status": 404.0, "body": "the test has no t:http for " + full})
	}
	v := there[best].answer
	if f, ok := v.(*lua.Callback); ok {
		headers := map[string]any{}
		for name, list := range q.Header {
			headers[strings.ToLower(name)] = strings.Join(list, ", ")
		}
		query := map[string]any{}
		for name, list := range q.URL.Query() {
			query[name] = list[0]
		}
		var err error
		if v, err = h.invoke(h.ctx, f, map[string]any{
			"method": q.Method, "url": full, "path": q.URL.Path, "query": query, "headers": headers, "body": string(body),
		}); err != nil {
			h.fault(fmt.Errorf("t:http(%q): %w", there[best].url, err))
			return nil, err
		}
	}
	a, err := responseOf(v)
	if _, fails := err.(*failing); err != nil && !fails {
		h.fault(fmt.Errorf("t:http(%q): %w", there[best].url, err))
	}
	return a, err
}

// responseOf reads a reply of t:http.
func responseOf(v any) (*http.Response, error) {
	if f, err := failOf(v); f != nil || err != nil {
		if err == nil {
			err = f
		}
		return nil, err
	}
	a := &http.Response{StatusCode: 200, ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}}
	var body []byte
	switch v := v.(type) {
	case string:
		body = []byte(v)
	case float64:
		a.StatusCode = int(v)
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			var ok bool
			switch key {
			case "status":
				var n float64
				n, ok = v[key].(float64)
				a.StatusCode = int(n)
			case "body":
				var s string
				if s, ok = v[key].(string); ok {
					body = []byte(s)
					break
				}
				var err error
				if body, err = json.Marshal(v[key]); err != nil {
					return nil, err
				}
				a.Header.Set("Content-Type", "application/json")
				ok = true
			case "headers":
				var t map[string]any
				t, ok = v[key].(map[string]any)
				for name, value := range t {
					a.Header.Set(name, fmt.Sprint(value))
				}
			}
			if !ok {
				return nil, fmt.Errorf("a reply has status, headers and body, or fail; %s is wrong", key)
			}
		}
	default:
		return nil, errors.New("a reply is a table of status, headers and body, a text, or a status")
	}
	if a.StatusCode < 100 || a.StatusCode > 999 {
		return nil, fmt.Errorf("%d is no status", a.StatusCode)
	}
	a.ContentLength, a.Body = int64(len(body)), io.NopCloser(bytes.NewReader(body))
	return a, nil
}
