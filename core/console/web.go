package console

import (
	"io"
	"net"
	"net/http"
	"net/netip"
)

// Web answers on the console's address. It can be read only, needs no login and
// shows no secrets; the address is loopback unless its owner says otherwise.
func (s *Server) Web() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.page)
	mux.Handle("GET /metrics", s.o.Record.Metrics())
	mux.HandleFunc("GET /healthz", s.healthz)
	mux.HandleFunc("GET /readyz", s.readyz)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; style-src "+s.style+"; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		switch {
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			h.Set("Allow", "GET, HEAD")
			http.Error(w, "this console can only be read", http.StatusMethodNotAllowed)
		case !hostFits(r):
			http.Error(w, "this console answers to its address and to localhost", http.StatusMisdirectedRequest)
		default:
			mux.ServeHTTP(w, r)
		}
	})
}

// hostFits refuses a request that reached a loopback address under some other
// name: a page of that name in a browser here would read what the console shows.
func hostFits(r *http.Request) bool {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok {
		return true
	}
	to, err := netip.ParseAddrPort(local.String())
	if err != nil || !to.Addr().Unmap().IsLoopback() {
		return true
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if len(host) > 1 && host[0] == '[' {
		host = host[1 : len(host)-1]
	}
	_, err = netip.ParseAddr(host)
	return err == nil || host == "localhost" || host == ""
}

// healthz says whether the daemon can do its work: 503 while the queue has failed. What
// mail does not depend on is told, with 200.
func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) {
	if trouble, ok := s.o.Queue.Trouble(); ok {
		http.Error(w, "the queue failed: "+trouble.String(), http.StatusServiceUnavailable)
		return
	}
	ok(w)
	for _, one := range s.status().Warnings {
		_, _ = io.WriteString(w, one.What+" failed; mail goes on: "+one.Failure+"\n")
	}
}

// readyz says whether the daemon wants traffic.
func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	if s.o.Ready != nil {
		if err := s.o.Ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
	}
	s.healthz(w, r)
}

func ok(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = io.WriteString(w, "ok\n") // a client that is gone asked in vain
}
