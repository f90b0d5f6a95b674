package lua

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	lua "github.com/yuin/gopher-lua"
	"golang.org/x/net/http/httpguts"
)

// Bounds of http.
const (
	httpWait    = 10 * time.Second // where opts.wait says nothing
	maxWait     = time.Minute      // of one request, connect, read or write
	httpAnswer  = 256 << 10        // bytes of an answer where opts.max says nothing
	maxBody     = 4 << 20          // bytes of an answer or a request at most
	maxFields   = 100              // header fields of a request
	maxHeader   = 64 << 10         // bytes of an answer's header
	maxRedirect = 5
	idleTime    = 30 * time.Second // that a connection is kept for the next request
	idlePerHost = 16
)

func (st *state) openHTTP(g *lua.LTable) {
	g.RawSetString("http", st.lookupLibrary(map[string]lookupFunc{"get": st.httpGet, "post": st.httpPost}))
}

// dialer opens connections as the options say.
func (o *Options) dialer() func(ctx context.Context, network, address string) (net.Conn, error) {
	if o.Library.Dial != nil {
		return o.Library.Dial
	}
	return (&net.Dialer{Timeout: maxWait}).DialContext
}

var (
	errScheme    = errors.New("a redirect to another scheme is not followed")
	errRedirects = errors.New("too many redirects")
)

// newWeb makes the HTTP client of a script. Its idle connections go by
// themselves, so nobody has to close it.
func newWeb(o *Options) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			DialContext: o.dialer(), TLSClientConfig: &tls.Config{RootCAs: o.Library.Roots, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true,
			MaxIdleConnsPerHost: idlePerHost, IdleConnTimeout: idleTime, MaxResponseHeaderBytes: maxHeader, TLSHandshakeTimeout: maxWait,
		},
		CheckRedirect: func(next *http.Request, before []*http.Request) error {
			switch {
			case next.URL.Scheme != before[0].URL.Scheme:
				return errScheme
			case len(before) > maxRedirect:
				return errRedirects
			}
			return nil
		},
	}
}

// web is the script's HTTP client.
func (s *Script) web() *http.Client {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.client == nil {
		s.client = newWeb(&s.options)
	}
	return s.client
}

// request is what a script wants of a server.
type request struct {
	method, url string
	body        []byte
	header      http.Header
	host        string
	wait        time.Duration
	max         int64
}

func (st *state) httpGet(L *lua.LState) lookup {
	r := &request{method: http.MethodGet, url: L.CheckString(1), header: http.Header{}}
	return st.toWeb(L, r, 2)
}

// httpPost is http.post(url, body, opts); a body that is a table goes as JSON.
func (st *state) httpPost(L *lua.LState) lookup {
	r := &request{method: http.MethodPost, url: L.CheckString(1), header: http.Header{}}
	if t, ok := L.Get(2).(*lua.LTable); ok {
		v, err := st.plain(L, t)
		if err == nil {
			r.body, err = encodeJSON(v)
		}
		if err != nil {
			return failed("bad", err.Error())
		}
		r.header.Set("Content-Type", "application/json")
	} else {
		s, ok := joinable(L.Get(2))
		if !ok {
			L.ArgError(2, "the body is a text, or a table that goes as JSON, not "+kindOf(L.Get(2)))
		}
		r.body = []byte(s)
		r.header.Set("Content-Type", "text/plain; charset=utf-8")
	}
	if len(r.body) > maxBody {
		st.b.exceed(L, "a request of more than %d MiB", maxBody>>20)
	}
	st.b.make(L, len(r.body))
	return st.toWeb(L, r, 3)
}

// toWeb is the look-up of a request, whose options stand at position n.
func (st *state) toWeb(L *lua.LState, r *request, n int) lookup {
	r.wait, r.max = httpWait, httpAnswer
	if wrong := st.httpOptions(L, r, n); wrong != "" {
		return failed("bad", wrong)
	}
	u, err := url.Parse(r.url)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return failed("bad", quote(r.url)+" is no URL of http or https")
	}
	client := st.script.web()
	var a *httpReply
	return lookup{
		ask: func(ctx context.Context) { a, err = r.do(ctx, client) },
		answer: func(L *lua.LState) int {
			if err != nil {
				return failNet(L, err, r.wait)
			}
			st.b.make(L, len(a.body))
			t := L.CreateTable(0, 3)
			t.RawSetString("status", lua.LNumber(a.status))
			t.RawSetString("body", lua.LString(a.body))
			t.RawSetString("headers", headerTable(a.header))
			L.Push(t)
			return 1
		},
	}
}

// httpOptions reads { headers =, wait =, max = }. What comes back is wrong with
// the header fields, which may come from a message.
func (st *state) httpOptions(L *lua.LState, r *request, n int) (wrong string) {
	if L.Get(n) == lua.LNil {
		return ""
	}
	t := L.CheckTable(n)
	for k, v := t.Next(lua.LNil); k != lua.LNil; k, v = t.Next(k) {
		switch key := k.String(); key {
		case "wait":
			r.wait = waitOption(L, n, v)
		case "max":
			size, ok := v.(lua.LNumber)
			if !ok || size < 0 || size > maxBody {
				L.ArgError(n, fmt.Sprintf("max is a number of bytes, at most %d", maxBody))
			}
			r.max = int64(size)
		case "headers":
			fields, ok := v.(*lua.LTable)
			if !ok {
				L.ArgError(n, "headers is a table such as { Accept = \"text/plain\" }")
			}
			wrong = r.fields(L, n, fields)
		default:
			L.ArgError(n, fmt.Sprintf("there is no option %q%s", key, didYouMean(key, []string{"headers", "wait", "max"})))
		}
	}
	return wrong
}

// waitOption is opts.wait.
func waitOption(L *lua.LState, n int, v lua.LValue) time.Duration {
	seconds, err := spanOf(v)
	if err != nil {
		L.ArgError(n, "wait: "+err.Error())
	}
	return min(max(toDuration(seconds), time.Millisecond), maxWait)
}

func (r *request) fields(L *lua.LState, n int, t *lua.LTable) (wrong string) {
	count := 0
	for k, v := t.Next(lua.LNil); k != lua.LNil; k, v = t.Next(k) {
		name, value := k.String(), ""
		text, ok := joinable(v)
		if value = text; !ok {
			L.ArgError(n, fmt.Sprintf("headers: %s must be a text, not %s", name, kindOf(v)))
		}
		if !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) || len(value) > maxHeader {
			return "headers: " + quote(name) + " or its value can't stand in a header"
		}
		if count++; count > maxFields {
			return fmt.Sprintf("more than %d header fields", maxFields)
		}
		if strings.EqualFold(name, "Host") {
			r.host = value
			continue
		}
		r.header.Set(name, value)
	}
	return ""
}

// httpReply is what a server said.
type httpReply struct {
	status int
	header http.Header
	body   []byte
}

// errLong is an answer longer than opts.max.
type errLong int64

func (e errLong) Error() string {
	return fmt.Sprintf("the answer is longer than %d bytes (the option max)", int64(e))
}

func (r *request) do(ctx context.Context, client *http.Client) (*httpReply, error) {
	ctx, cancel := context.WithTimeout(ctx, r.wait)
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, r.method, r.url, bytes.NewReader(r.body))
	if err != nil {
		return nil, err
	}
	q.Header, q.Host = r.header, r.host
	if q.Header.Get("User-Agent") == "" {
		q.Header.Set("User-Agent", "Postern")
	}
	a, err := client.Do(q)
	if err != nil {
		return nil, err
	}
	defer a.Body.Close()
	body, err := io.ReadAll(io.LimitReader(a.Body, r.max+1))
	if err != nil {
		return nil, err
	}
	if int64(len(body)) > r.max {
		return nil, errLong(r.max)
	}
	return &httpReply{a.StatusCode, a.Header, body}, nil
}

// headerTable is header fields by their lower-case names.
func headerTable(h http.Header) *lua.LTable {
	t := &lua.LTable{Metatable: lua.LNil}
	for _, name := range sortedNames(h) {
		t.RawSetString(strings.ToLower(name), lua.LString(strings.Join(h[name], ", ")))
	}
	return t
}

// failNet is fail for an error of the network.
func failNet(L *lua.LState, err error, wait time.Duration) int {
	var long errLong
	var verify *tls.CertificateVerificationError
	var unknownAuthority x509.UnknownAuthorityError
	switch {
	case errors.As(err, &long):
		return fail(L, "bad", long.Error())
	case errors.Is(err, errScheme), errors.Is(err, errRedirects), errors.As(err, &verify), errors.As(err, &unknownAuthority):
		return fail(L, "bad", oneLine(err.Error()))
	case errors.Is(err, io.EOF):
		return fail(L, "none", "the other side closed the connection")
	case errors.Is(err, context.DeadlineExceeded) || isTimeout(err):
		return fail(L, "temporary", "no answer within "+formatSeconds(wait.Seconds()))
	}
	return fail(L, "temporary", oneLine(err.Error()))
}

func isTimeout(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}
