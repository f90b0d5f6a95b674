package console

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/queue"
	"github.com/postern-mta/postern/core/record"
)

// maxOrder bounds the JSON of a request, in bytes.
const maxOrder = 4 << 20

// Envelope is the first line of an inject request, as JSON; the message follows.
type Envelope struct {
	Sender     string   `json:"sender"` // "" is the null path
	Recipients []string `json:"recipients"`
	// See queue.Drop.
	Double bool           `json:"double,omitempty"`
	Via    string         `json:"via,omitempty"`
	Trace  string         `json:"trace,omitempty"`
	Client netip.AddrPort `json:"client,omitzero"`
}

// maxInjected bounds the line with an Envelope, in bytes: a hundred thousand
// recipients, however long.
const maxInjected = 128 << 20

// Answer is the reply to an injected message.
type Answer struct {
	Code     int    `json:"code"`
	Enhanced string `json:"enhanced"`
	Text     string `json:"text"`
}

// Order asks for something to be done to queued messages.
type Order struct {
	Filter
	DryRun bool   `json:"dry_run,omitempty"` // only tell what would be done
	To     string `json:"to,omitempty"`      // of reroute: the next hop; "" the configured routes
	Text   string `json:"text,omitempty"`    // of bounce: what senders are told
	Class  string `json:"class,omitempty"`   // of quarantine-learn: spam or ham
	Policy string `json:"policy,omitempty"`  // of quarantine-learn: who alone is to learn
	Then   string `json:"then,omitempty"`    // of quarantine-learn: release or delete, once it is learned
}

// Act does something to one queued message. An error that wraps queue.ErrNotFound
// means that it is gone.
type Act func(ctx context.Context, id string, o *Order) error

// Done is a message that an Order reached, or would reach.
type Done struct {
	ID         string `json:"id"`
	Sender     string `json:"sender"`
	Recipients int    `json:"recipients"`
	Problem    string `json:"problem,omitempty"` // why nothing was done to it
	Unknown    bool   `json:"unknown,omitempty"` // there is no such message
}

// failure is how an endpoint says what went wrong; in a list, as its last line.
type failure struct {
	Error string `json:"error"`
}

// Control answers on the control socket: whoever reaches it may do everything.
func (s *Server) Control() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) { s.reply(w, s.status()) })
	mux.HandleFunc("GET /top", s.top)
	mux.HandleFunc("POST /reload", s.reload)
	mux.HandleFunc("POST /drops", s.takeDrops)
	mux.HandleFunc("GET /downs", s.downs)
	mux.HandleFunc("POST /downs/forget", s.forget)
	mux.HandleFunc("GET /queue/summary", s.queueSummary)
	mux.HandleFunc("POST /queue/list", s.queueList)
	mux.HandleFunc("GET /queue/show", s.queueShow)
	mux.HandleFunc("GET /queue/body", s.queueBody)
	mux.HandleFunc("POST /queue/act/{act}", s.queueAct)
	mux.HandleFunc("POST /queue/import", s.queueImport)
	mux.HandleFunc("POST /queue/fsck", s.queueCheck)
	mux.HandleFunc("POST /why", s.why)
	mux.HandleFunc("POST /shadow", s.shadow)
	mux.HandleFunc("GET /stories", s.stories)
	mux.HandleFunc("GET /passages", s.passages)
	mux.HandleFunc("POST /inject", s.inject)
	mux.HandleFunc("GET /plugins", s.plugins)
	mux.Handle("GET /metrics", s.o.Record.Metrics())
	profiles(mux)
	return mux
}

func (s *Server) reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		s.log.Debug("control: reply", "error", err)
	}
}

func (s *Server) fail(w http.ResponseWriter, status int, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(failure{err.Error()}); err != nil {
		s.log.Debug("control: reply", "error", err)
	}
}

// statusOf is the HTTP status of an error of the queue.
func statusOf(err error) int {
	switch {
	case errors.Is(err, queue.ErrNotFound):
		return http.StatusNotFound
	case errors.Is(err, ErrNoFilter), errors.Is(err, ErrBadID), errors.Is(err, ErrManyIDs):
		return http.StatusBadRequest
	}
	return http.StatusInternalServerError
}

func (s *Server) reload(w http.ResponseWriter, r *http.Request) {
	// What was begun is finished, whether its owner waits or not.
	if err := s.o.Reload(context.WithoutCancel(r.Context())); err != nil {
		s.fail(w, http.StatusUnprocessableEntity, err)
		return
	}
	s.reply(w, s.status())
}

func (s *Server) takeDrops(w http.ResponseWriter, r *http.Request) {
	s.o.TakeDrops(r.Context())
	s.reply(w, struct{}{})
}

func (s *Server) queueSummary(w http.ResponseWriter, r *http.Request) {
	limit := 0
	if text := r.URL.Query().Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 {
			s.fail(w, http.StatusBadRequest, fmt.Errorf("limit %q is no number of destinations", text))
			return
		}
		limit = n
	}
	sum, err := Summarize(s.o.Queue.Scan(), s.destination, 0)
	if err != nil {
		s.fail(w, statusOf(err), err)
		return
	}
	s.reply(w, sum.Top(limit))
}

// order reads a request's JSON, at most maxOrder bytes of it.
func order[T any](w http.ResponseWriter, r *http.Request) (v T, err error) {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxOrder))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		return v, fmt.Errorf("reading the request: %w", err)
	}
	return v, nil
}

// chosen walks the messages that the filter means. Ids are looked up one by one;
// missing gets those that are not there, or not in quarantine where that is asked
// for.
func (s *Server) chosen(f *Filter, missing func(Done)) iter.Seq2[*queue.Message, error] {
	goes := func(m *queue.Message) bool { return f.GoesTo(m, s.destination) }
	if len(f.IDs) == 0 {
		return s.o.Queue.All(f.Matches, goes)
	}
	return func(yield func(*queue.Message, error) bool) {
		for _, id := range f.IDs {
			m, err := s.o.Queue.Load(id)
			if errors.Is(err, queue.ErrNotFound) {
				missing(Done{ID: id, Unknown: true, Problem: queue.ErrNotFound.Error()})
				continue
			}
			if err == nil && f.Quarantined && m.Place != queue.Quarantined {
				missing(Done{ID: id, Sender: m.Sender.String(), Recipients: len(m.Recipients), Problem: ErrNotQuarantined.Error()})
				continue
			}
			if (err != nil || f.Matches(m) && goes(m)) && !yield(m, err) {
				return
			}
		}
	}
}

func (s *Server) queueList(w http.ResponseWriter, r *http.Request) {
	f, err := order[Filter](w, r)
	if err != nil {
		s.fail(w, http.StatusBadRequest, err)
		return
	}
	out := newLines(w)
	for m, err := range s.chosen(&f, func(Done) {}) {
		if err != nil {
			out.put(failure{err.Error()})
			break
		}
		if !out.put(RowOf(m)) {
			return
		}
	}
	out.flush()
}

func (s *Server) queueShow(w http.ResponseWriter, r *http.Request) {
	m, err := s.o.Queue.Load(r.URL.Query().Get("id"))
	if err != nil {
		s.fail(w, statusOf(err), err)
		return
	}
	s.reply(w, DetailOf(m))
}

func (s *Server) queueBody(w http.ResponseWriter, r *http.Request) {
	body, closer, err := s.o.Queue.Body(r.URL.Query().Get("id"))
	if err != nil {
		s.fail(w, statusOf(err), err)
		return
	}
	defer func() {
		if err := closer.Close(); err != nil {
			s.log.Warn("control: closing a body", "error", err)
		}
	}()
	w.Header().Set("Content-Type", "message/rfc822")
	w.Header().Set("Content-Length", strconv.FormatInt(body.Size(), 10))
	if _, err := io.Copy(w, message.NewReader(body)); err != nil {
		s.log.Debug("control: sending a body", "error", err)
	}
}

// queueAct does one act to each message chosen, and tells of each on a line.
func (s *Server) queueAct(w http.ResponseWriter, r *http.Request) {
	act, ok := s.o.Acts[r.PathValue("act")]
	if !ok {
		s.fail(w, http.StatusNotFound, fmt.Errorf("nothing called %q can be done to queued messages", r.PathValue("act")))
		return
	}
	o, err := order[Order](w, r)
	if err == nil {
		err = o.Check()
	}
	if err == nil && o.To != "" && s.o.NextHop != nil {
		err = s.o.NextHop(o.To)
	}
	if err != nil {
		s.fail(w, http.StatusBadRequest, err)
		return
	}
	out := newLines(w)
	for m, err := range s.chosen(&o.Filter, func(d Done) { out.put(d) }) {
		if err != nil {
			out.put(failure{err.Error()})
			break
		}
		done := Done{ID: m.ID, Sender: m.Sender.String(), Recipients: len(m.Recipients)}
		if !o.DryRun {
			if err := act(r.Context(), m.ID, &o); err != nil {
				done.Problem, done.Unknown = err.Error(), errors.Is(err, queue.ErrNotFound)
			}
		}
		if !out.put(done) {
			return
		}
	}
	out.flush()
}

// lines writes JSON objects, one a line, and sends them about once a second.
type lines struct {
	w    http.ResponseWriter
	b    *bufio.Writer
	json *json.Encoder
	sent time.Time
}

func newLines(w http.ResponseWriter) *lines {
	w.Header().Set("Content-Type", "application/x-ndjson")
	b := bufio.NewWriterSize(w, 32<<10)
	return &lines{w: w, b: b, json: json.NewEncoder(b), sent: time.Now()}
}

// put tells whether somebody still listens.
func (l *lines) put(v any) bool {
	if l.json.Encode(v) != nil {
		return false
	}
	if now := time.Now(); now.Sub(l.sent) > time.Second {
		l.sent = now
		return l.flush()
	}
	return true
}

func (l *lines) flush() bool {
	return l.b.Flush() == nil && http.NewResponseController(l.w).Flush() == nil
}

func (s *Server) why(w http.ResponseWriter, r *http.Request) {
	q, err := order[record.Query](w, r)
	if err == nil {
		err = q.Check()
	}
	if err != nil {
		s.fail(w, http.StatusBadRequest, err)
		return
	}
	stories, err := s.o.Record.Why(r.Context(), q)
	if err != nil {
		s.fail(w, http.StatusInternalServerError, err)
		return
	}
	if stories == nil {
		stories = []record.Story{}
	}
	s.reply(w, stories)
}

// shadow reports what policies in shadow mode would have done.
func (s *Server) shadow(w http.ResponseWriter, r *http.Request) {
	q, err := order[record.ShadowQuery](w, r)
	if err == nil {
		err = q.Check()
	}
	if err != nil {
		s.fail(w, http.StatusBadRequest, err)
		return
	}
	report, err := s.o.Record.Shadow(r.Context(), q)
	if err != nil {
		s.fail(w, http.StatusInternalServerError, err)
		return
	}
	s.reply(w, report)
}

// inject takes a message: a line with the Envelope, then the message itself.
func (s *Server) inject(w http.ResponseWriter, r *http.Request) { s.injectBy(w, r, nil, s.o.Inject) }

// injectBy hands a message to take. Where large is not nil, an envelope that is large
// waits for a place in it.
func (s *Server) injectBy(w http.ResponseWriter, r *http.Request, large chan struct{}, take func(context.Context, queue.Drop, io.Reader) message.Reply) {
	body := bufio.NewReaderSize(r.Body, 64<<10)
	held := false
	drop, err := envelope(body, func() error {
		if large == nil {
			return nil
		}
		select {
		case large <- struct{}{}:
			held = true
			return nil
		case <-r.Context().Done():
			return r.Context().Err()
		}
	})
	if held {
		defer func() { <-large }()
	}
	if err != nil {
		s.fail(w, http.StatusBadRequest, err)
		return
	}
	reply := take(r.Context(), drop, body)
	// A client that is still sending would not see the answer.
	if _, err := io.Copy(io.Discard, body); err != nil {
		s.log.Debug("control: the rest of a message", "error", err)
	}
	s.reply(w, Answer{reply.Code, reply.Status(), reply.Text})
}

// envelope reads and checks the first line of an inject request.
// large is called before more than smallEnvelope of it is read.
func envelope(b *bufio.Reader, large func() error) (drop queue.Drop, err error) {
	line, err := firstLine(b, maxInjected, large)
	if err != nil {
		return drop, fmt.Errorf("reading the envelope: %w", err)
	}
	var e Envelope
	if err := json.Unmarshal(line, &e); err != nil {
		return drop, fmt.Errorf("reading the envelope: %w", err)
	}
	drop = queue.Drop{Arrived: time.Now(), Double: e.Double, Via: e.Via, Trace: e.Trace, Client: e.Client}
	if drop.Sender, err = message.ParseSender(e.Sender); err != nil {
		return drop, fmt.Errorf("sender %q: %w", e.Sender, err)
	}
	if len(e.Recipients) == 0 {
		return drop, errors.New("no recipient")
	}
	for _, one := range e.Recipients {
		a, err := message.ParseAddress(one)
		if err == nil && a.IsNull() {
			err = message.ErrSyntax
		}
		if err != nil {
			return drop, fmt.Errorf("recipient %q: %w", one, err)
		}
		drop.Recipients = append(drop.Recipients, a)
	}
	return drop, nil
}

// firstLine reads up to a line feed, at most limit bytes.
// large, where it is not nil, is called once where it has more than smallEnvelope.
func firstLine(b *bufio.Reader, limit int, large func() error) ([]byte, error) {
	var line []byte
	for {
		part, err := b.ReadSlice('\n')
		line = append(line, part...)
		if len(line) > smallEnvelope && large != nil {
			if err := large(); err != nil {
				return nil, err
			}
			large = nil
		}
		if len(line) > limit {
			return nil, errors.New("it is too long")
		}
		if err == nil {
			return line, nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return nil, err
		}
	}
}

func (s *Server) plugins(w http.ResponseWriter, r *http.Request) {
	list := []Plugin{}
	if s.o.Plugins != nil {
		list = append(list, s.o.Plugins(r.Context())...)
	}
	s.reply(w, list)
}
