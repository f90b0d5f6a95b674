package console

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/queue"
)

// Bounds of what any account may ask of us.
const (
	injectionTimeout = time.Hour // for a whole request
	largeAtATime     = 2         // envelopes beyond smallEnvelope
	smallEnvelope    = 1 << 20   // bytes: some ten thousand recipients
)

// ListenInjection makes a socket like that of ListenControl which every account of this
// host may connect to. It is for ServeInjection.
func ListenInjection(path string) (net.Listener, error) {
	if len(path) > MaxSocketPath {
		return nil, fmt.Errorf("console: %s: %w", path, ErrLongPath)
	}
	ln, err := listenSocket(path, 0o666)
	if err != nil {
		return nil, fmt.Errorf("console: socket %s: %w", path, err)
	}
	return ln, nil
}

// ServeInjection takes messages on ln, as Client.Inject hands them over, and nothing
// else, until ctx is done; it closes ln. Who brings a message is what the kernel says,
// not what is said in the envelope. The client that it says it serves is believed: to be
// judged as a stranger's gains nobody anything. One account gets a share of the
// connections, and few envelopes that are large are in memory at a time.
func (s *Server) ServeInjection(ctx context.Context, ln net.Listener, via string) error {
	mux, large := http.NewServeMux(), make(chan struct{}, largeAtATime)
	mux.HandleFunc("POST /inject", func(w http.ResponseWriter, r *http.Request) {
		s.injectBy(w, r, large, func(ctx context.Context, d queue.Drop, body io.Reader) message.Reply {
			d.Via, d.Trace = via, r.RemoteAddr
			return s.o.Inject(ctx, d, body)
		})
	})
	peers := listenPeers(ln)
	err := s.serve(ctx, peers, &http.Server{Handler: mux, ReadTimeout: injectionTimeout})
	<-peers.ended
	return err
}
