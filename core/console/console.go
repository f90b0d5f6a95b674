// Package console lets people and programs look at a running daemon, and its
// owner give it orders.
//
//   - Server.Web serves the console's address: a page of state that is read-only
//     (page.go), /metrics, /healthz and /readyz.
//   - Server.Control serves JSON over HTTP on the control socket (control.go), a
//     Unix socket of mode 0600: status, reload, the queue, why, inject, policies
//     and plugins.
//   - Top (top.go) is one cheap answer with everything that moves, for `postern top`.
//   - Client (client.go) is the other end of that socket, for the subcommands.
//   - Filter, Row and Summary (filter.go, row.go, summary.go) are the queue as
//     people and programs see it. Whoever has a *queue.Queue can make them, so
//     that the subcommands show the same with the daemon down.
//
// What the daemon itself does, it does in functions of Options: the package knows
// no configuration, no chain and no scheduler.
package console

import (
	"context"
	"errors"
	"html/template"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/net/netutil"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/queue"
	"github.com/postern-mta/postern/core/record"
	"github.com/postern-mta/postern/core/send"
)

// Bounds of both servers.
const (
	maxConnections = 100
	headerTimeout  = 10 * time.Second
	webTimeout     = 30 * time.Second // for a whole request to the console's address
	idleTimeout    = 2 * time.Minute
	stopTimeout    = 5 * time.Second // for requests under way when the daemon stops
	maxHeader      = 64 << 10
)

// Options is what a Server shows and whom it orders. Record and Queue must be
// set. The functions are called from many goroutines at once.
type Options struct {
	Log    *slog.Logger // nil: none
	Record *record.Recorder
	Queue  *queue.Queue

	// Status tells what only the daemon knows; PID, Connections and Queue are
	// filled in by the Server.
	Status func() Status
	// Open counts the connections by listener and stage; nil: they are not counted.
	Open func() []Open
	// Ways tells how at most most destinations do, and how many there are, as
	// send.Sender.Look does; nil: nobody knows.
	Ways func(most int) ([]send.View, int, send.Channels)
	// Ready is an error while the daemon does not want traffic; nil: always ready.
	Ready func() error
	// Destination names where a recipient of a queued message goes, for the
	// summary; nil: its domain.
	Destination func(m *queue.Message, recipient int) string
	// Reload loads the configuration anew. The error's text is shown as it is and
	// may have many lines.
	Reload func(ctx context.Context) error
	// Acts is what can be done to a queued message, by name, such as retry or delete.
	Acts map[string]Act
	// NextHop tells what is wrong with a next hop that an order names; nil: nothing
	// is checked.
	NextHop func(s string) error
	// Import puts a message into the queue as it was exported; nil: not possible.
	Import func(ctx context.Context, m *queue.Message, body io.Reader) error
	// Inject takes a message in. It reads body to its end, or refuses.
	Inject func(ctx context.Context, drop queue.Drop, body io.Reader) message.Reply
	// TakeDrops looks into the drop directory for mail that was injected while no
	// daemon ran, and takes it in.
	TakeDrops func(ctx context.Context)
	// Downs lists the hosts that did not answer of late, and Forget takes that back;
	// nil: nobody knows.
	Downs  func() []Unreached
	Forget func()
	// Plugins lists the plugin processes, each asked for its health; nil: there
	// are none.
	Plugins func(ctx context.Context) []Plugin
}

// Unreached is a host that did not answer of late.
type Unreached struct {
	Peer  string    `json:"peer"`
	IP    string    `json:"ip,omitempty"` // "" of a unix socket
	Since time.Time `json:"since"`
}

// Server serves the console and the control socket. Make it with New.
type Server struct {
	o        Options
	log      *slog.Logger
	template *template.Template // the page
	style    string             // the Content-Security-Policy source of its style

	mu      sync.Mutex // guards the cached summary
	summary Summary
	summed  time.Time
	sumErr  error

	walks walks
}

// New makes a server.
func New(o Options) *Server {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{o: o, log: o.Log, template: pageTemplate(), style: styleSource()}
	s.walks.stop, s.walks.end = context.WithCancel(context.Background())
	return s
}

// ServeWeb serves the console on ln until ctx is done, and closes ln.
func (s *Server) ServeWeb(ctx context.Context, ln net.Listener) error {
	return s.serve(ctx, ln, &http.Server{Handler: s.Web(), ReadTimeout: webTimeout, WriteTimeout: webTimeout})
}

// ServePages serves pages for others than operators, such as those behind the links of
// a digest, with the bounds of the console, until ctx is done, and closes ln.
func (s *Server) ServePages(ctx context.Context, ln net.Listener, pages http.Handler) error {
	return s.serve(ctx, ln, &http.Server{Handler: pages, ReadTimeout: webTimeout, WriteTimeout: webTimeout})
}

// ServeControl serves the control socket on ln, as made by ListenControl, until
// ctx is done, and closes ln. Requests have no time limit: a message may be
// injected, and a long list read, at its owner's pace.
func (s *Server) ServeControl(ctx context.Context, ln net.Listener) error {
	stop := context.AfterFunc(ctx, s.walks.end)
	err := s.serve(ctx, ln, &http.Server{Handler: s.Control()})
	stop()
	s.walks.end()
	s.walks.all.Wait()
	return err
}

func (s *Server) serve(ctx context.Context, ln net.Listener, hs *http.Server) error {
	hs.ReadHeaderTimeout, hs.IdleTimeout, hs.MaxHeaderBytes = headerTimeout, idleTimeout, maxHeader
	hs.ErrorLog = slog.NewLogLogger(s.log.Handler(), slog.LevelWarn)
	hs.BaseContext = func(net.Listener) context.Context { return context.WithoutCancel(ctx) }
	ended := make(chan error, 1)
	go func() { ended <- hs.Serve(netutil.LimitListener(ln, maxConnections)) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	err := hs.Shutdown(stop)
	if err != nil {
		err = hs.Close()
	}
	if serving := <-ended; !errors.Is(serving, http.ErrServerClosed) {
		err = errors.Join(err, serving)
	}
	return err
}

// status is the daemon's state, complete.
func (s *Server) status() Status {
	var st Status
	if s.o.Status != nil {
		st = s.o.Status()
	}
	return st.complete(s.o.Queue, s.o.Record)
}

func (s *Server) destination(m *queue.Message, recipient int) string {
	if s.o.Destination != nil {
		return s.o.Destination(m, recipient)
	}
	return m.Recipients[recipient].Address.Domain
}
