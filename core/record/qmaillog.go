package record

import (
	"context"
	"io"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/postern-mta/postern/core/message"
)

// QmailLog writes what happens to queued mail in the lines of qmail-send, for those
// who have programs that read them. It stands beside the logger of the rest, whose
// Handler it makes. It is safe for concurrent use.
//
// A message's number and its qp are made of its id (QmailNumbers); QmailID is the way
// back. Lines have no time stamp, as qmail-send's have none: multilog adds it.
type QmailLog struct {
	mu       sync.Mutex
	w        io.Writer
	buf      []byte
	started  uint64
	running  [2]int // deliveries under way, local and remote
	limits   [2]int
	stopping bool
}

// NewQmailLog makes one that writes to w.
func NewQmailLog(w io.Writer) *QmailLog { return &QmailLog{w: w} }

// QmailNumbers is an id as qmail's log has it: the number of the message, and its
// long-term id, which here is the millisecond of its arrival. Those of different ids
// are different ones.
func QmailNumbers(id string) (number, qp uint64) {
	if len(id) != len(message.NewID(time.Time{})) || !message.ValidID(id) {
		for i := range len(id) { // FNV-1a of what has no time in it
			number = (number ^ uint64(id[i])) * 1099511628211
		}
		return number >> 1, 0
	}
	qp = base62(id[:idTimeDigits])
	return (qp*idRandom + base62(id[idTimeDigits:])) &^ (1 << 63), qp
}

// QmailID is the id of a message with these numbers.
func QmailID(number, qp uint64) (id string, ok bool) {
	rest := (number - qp*idRandom) &^ (1 << 63)
	if rest >= idRandom || qp == 0 {
		return "", false
	}
	b := make([]byte, 0, idTimeDigits+idDigits)
	for _, part := range [...]struct {
		n      uint64
		digits int
	}{{qp, idTimeDigits}, {rest, idDigits}} {
		at := len(b)
		for range part.digits {
			b = append(b, digits[part.n%62])
			part.n /= 62
		}
		if part.n > 0 {
			return "", false
		}
		slices.Reverse(b[at:])
	}
	return string(b), true
}

// The parts of message.NewID.
const (
	digits       = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	idTimeDigits = 8
	idDigits     = 7
	idRandom     = 62 * 62 * 62 * 62 * 62 * 62 * 62
)

func base62(s string) (n uint64) {
	for i := range len(s) {
		n = n*62 + uint64(strings.IndexByte(digits, s[i]))
	}
	return n
}

// line writes one, made of texts and numbers; bytes that are not fit for it are as
// qmail-send has them. l.mu is held.
func (l *QmailLog) line(parts ...any) {
	b := l.buf[:0]
	for _, p := range parts {
		switch p := p.(type) {
		case string:
			b = append(b, p...)
		case uint64:
			b = strconv.AppendUint(b, p, 10)
		case int:
			b = strconv.AppendInt(b, int64(p), 10)
		case int64:
			b = strconv.AppendInt(b, p, 10)
		case safe:
			b = p.append(b)
		}
	}
	b = append(b, '\n')
	l.buf = b
	_, _ = l.w.Write(b) // a log that can't be written has nobody to tell
}

// safe is a text from outside as qmail-send logs it: one word of printable ASCII.
type safe string

func (s safe) append(b []byte) []byte {
	for i := range len(s) {
		switch c := s[i]; {
		case c == '\n':
			b = append(b, '/')
		case c < 33 || c > 126 || c == '%':
			b = append(b, '_')
		default:
			b = append(b, c)
		}
	}
	return b
}

// status writes how many deliveries are under way. l.mu is held.
func (l *QmailLog) status() {
	end := ""
	if l.stopping {
		end = " exitasap"
	}
	l.line("status: local ", l.running[0], "/", l.limits[0], " remote ", l.running[1], "/", l.limits[1], end)
}

// Limits tells how many deliveries there may be at a time.
func (r *Recorder) Limits(local, remote int) {
	if r == nil || r.o.Qmail == nil {
		return
	}
	l := r.o.Qmail
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := [2]int{local, remote}; l.limits != now {
		l.limits = now
		l.status()
	}
}

// Stopping tells that no delivery is begun any more, and, where all are over, Stopped.
func (r *Recorder) Stopping() {
	if r == nil || r.o.Qmail == nil {
		return
	}
	l := r.o.Qmail
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopping = true
	l.status()
}

// Stopped is what Stopping says.
func (r *Recorder) Stopped() {
	if r == nil || r.o.Qmail == nil {
		return
	}
	l := r.o.Qmail
	l.mu.Lock()
	defer l.mu.Unlock()
	l.line("status: exiting")
}

// Entered tells that message id is in the queue, before anything is tried: its size in
// bytes as it is stored, and the number of the account that handed it over, "" where it
// came to the daemon itself. double: it is a double bounce.
func (r *Recorder) Entered(id string, sender message.Address, double bool, size int64, uid string) {
	if r == nil || r.o.Qmail == nil {
		return
	}
	l := r.o.Qmail
	n, qp := QmailNumbers(id)
	from := sender.String()
	if double {
		from = "#@[]"
	}
	if uid == "" {
		uid = strconv.Itoa(os.Getuid())
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.line("new msg ", n)
	l.line("info msg ", n, ": bytes ", size, " from <", safe(from), "> qp ", qp, " uid ", uid)
}

// Deliveries tells whether Begin is to be told of deliveries.
func (r *Recorder) Deliveries() bool { return r != nil && r.o.Qmail != nil }

// Begin tells that message id is tried for recipients, and returns the first of their
// deliveries' numbers, which follow each other. End is to be called once, after the
// attempts were told. local says on which channel.
func (r *Recorder) Begin(id string, local bool, recipients []string) (first uint64) {
	l := r.o.Qmail
	n, _ := QmailNumbers(id)
	l.mu.Lock()
	defer l.mu.Unlock()
	first = l.started + 1
	for _, to := range recipients {
		l.started++
		l.start(n, local, to)
	}
	l.running[channel(local)]++
	l.status()
	return first
}

func (l *QmailLog) start(n uint64, local bool, to string) {
	name := "remote "
	if local {
		name = "local "
	}
	l.line("starting delivery ", l.started, ": msg ", n, " to ", name, safe(to))
}

// End ends what Begin began.
func (r *Recorder) End(local bool) {
	l := r.o.Qmail
	l.mu.Lock()
	defer l.mu.Unlock()
	l.running[channel(local)]--
	l.status()
}

func channel(local bool) int {
	if local {
		return 0
	}
	return 1
}

// attempt writes what came of a delivery. One that was decided without an attempt
// begins and ends here.
func (l *QmailLog) attempt(id string, a *Attempt) {
	local := a.NextHop == "local" || a.NextHop == "discard" || strings.HasPrefix(a.NextHop, "pipe:")
	l.mu.Lock()
	defer l.mu.Unlock()
	number := a.Delivery
	if number == 0 {
		n, _ := QmailNumbers(id)
		l.started++
		number = l.started
		l.start(n, local, a.Recipient)
	}
	word := map[string]string{"delivered": "success: ", "bounced": "failure: "}[a.Outcome]
	if word == "" {
		word = "deferral: "
	}
	l.line("delivery ", number, ": ", word, safe(outcomeText(a, local)))
}

// outcomeText is what is said of an outcome: of local ones what qmail-local counts, of
// remote ones the host and what it said.
func outcomeText(a *Attempt, local bool) string {
	said := spoken(a.Reply)
	if said == "" {
		said = "No_answer"
	}
	if local {
		if a.Outcome == "delivered" && strings.Contains(a.Reply.Text, "did ") { // behind what programs wrote
			return a.Reply.Text + "/"
		}
		switch {
		case a.Outcome != "delivered":
			return said + "/"
		case a.NextHop == "discard":
			return "did 0+0+0/"
		case strings.HasPrefix(a.NextHop, "pipe:"):
			return "did 0+0+1/"
		}
		return "did 1+0+0/"
	}
	host := a.Peer
	if from := strings.LastIndexByte(host, '['); from >= 0 {
		if to := strings.IndexByte(host[from:], ']'); to > 0 {
			host = host[from+1 : from+to]
		}
	}
	if host == "" {
		return said + "/"
	}
	what := map[string]string{"delivered": " accepted message./", "bounced": " does not like recipient./"}[a.Outcome]
	if what == "" {
		what = " can't take it now./"
	}
	return host + what + "Remote host said: " + said + "/"
}

// spoken is a reply with its lines, which the log parts by slashes; "" for none.
func spoken(r message.Reply) string {
	if r.IsZero() {
		return ""
	}
	text := r.Text
	r.Text = ""
	return strings.TrimRight(r.String()+" "+text, " ")
}

// Bounced tells that a notice of message id's failure is in the queue, as message as.
func (r *Recorder) Bounced(id, as string) {
	if r == nil || r.o.Qmail == nil {
		return
	}
	n, _ := QmailNumbers(id)
	_, qp := QmailNumbers(as)
	l := r.o.Qmail
	l.mu.Lock()
	defer l.mu.Unlock()
	l.line("bounce msg ", n, " qp ", qp)
}

// Dropped tells that message id, a bounce of a bounce, failed, and nobody is told.
func (r *Recorder) Dropped(id string) {
	if r == nil || r.o.Qmail == nil {
		return
	}
	n, _ := QmailNumbers(id)
	l := r.o.Qmail
	l.mu.Lock()
	defer l.mu.Unlock()
	l.line("triple bounce: discarding bounce/", n)
}

// gone writes the end of a message.
func (l *QmailLog) gone(id string) {
	n, _ := QmailNumbers(id)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.line("end msg ", n)
}

// Handler is the handler of a logger of all that is not mail in the queue: warnings
// are lines "warning: …", errors "alert: …", and the rest stands there only where the
// level is debug.
func (l *QmailLog) Handler(level slog.Level) slog.Handler {
	h := &qmailHandler{log: l, level: max(level, slog.LevelWarn)}
	if level <= slog.LevelDebug {
		h.level = level
	}
	return h
}

type qmailHandler struct {
	log   *QmailLog
	level slog.Level
	with  string // attributes, each with a blank in front
	group string
}

// Enabled implements slog.Handler.
func (h *qmailHandler) Enabled(_ context.Context, level slog.Level) bool { return level >= h.level }

// Handle implements slog.Handler.
func (h *qmailHandler) Handle(_ context.Context, r slog.Record) error {
	word := "debug: "
	switch {
	case r.Level >= slog.LevelError:
		word = "alert: "
	case r.Level >= slog.LevelWarn:
		word = "warning: "
	case r.Level >= slog.LevelInfo:
		word = "notice: "
	}
	var b strings.Builder
	b.WriteString(r.Message)
	b.WriteString(h.with)
	r.Attrs(func(a slog.Attr) bool {
		writeAttr(&b, h.group, a)
		return true
	})
	h.log.mu.Lock()
	defer h.log.mu.Unlock()
	h.log.line(word, Clean(b.String()))
	return nil
}

func writeAttr(b *strings.Builder, group string, a slog.Attr) {
	if a.Value.Kind() == slog.KindGroup {
		for _, one := range a.Value.Group() {
			writeAttr(b, group+a.Key+".", one)
		}
		return
	}
	value := a.Value.Resolve().String()
	if value == "" || strings.ContainsAny(value, " \"=\n") {
		value = strconv.Quote(value)
	}
	b.WriteString(" " + group + a.Key + "=" + value)
}

// WithAttrs implements slog.Handler.
func (h *qmailHandler) WithAttrs(list []slog.Attr) slog.Handler {
	var b strings.Builder
	for _, a := range list {
		writeAttr(&b, h.group, a)
	}
	c := *h
	c.with += b.String()
	return &c
}

// WithGroup implements slog.Handler.
func (h *qmailHandler) WithGroup(name string) slog.Handler {
	c := *h
	c.group += name + "."
	return &c
}
