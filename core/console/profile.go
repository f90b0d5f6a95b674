package console

import (
	"context"
	"io"
	"net/http"
	"net/http/pprof"
	"net/url"
	"strconv"
)

// Profile asks for what the daemon's time or memory goes to, in pprof's format:
// "cpu" and "trace" of the next so many seconds, or one of runtime/pprof's
// profiles, such as "heap", as it is. The caller closes it.
func (c *Client) Profile(ctx context.Context, kind string, seconds int) (io.ReadCloser, error) {
	path, query := "/debug/pprof/"+kind, url.Values{}
	switch kind {
	case "cpu":
		path = "/debug/pprof/profile"
		fallthrough
	case "trace":
		query.Set("seconds", strconv.Itoa(seconds))
	case "heap":
		query.Set("gc", "1") // what lives, and not what waits to be collected
	}
	resp, err := c.do(ctx, http.MethodGet, path, query, nil)
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// profiles adds Go's profiles to the control socket; the console's page has none.
func profiles(mux *http.ServeMux) {
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
}
