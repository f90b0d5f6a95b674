package record

import (
	"io"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
)

// Event is one decision, verdict or attempt, as a line on a terminal and the
// list of recent ones show it.
type Event struct {
	Time      time.Time
	ID        string // of the message; of the session where there is none
	Client    netip.Addr
	Sender    string
	Recipient string // the first or only one
	More      int    // further recipients
	Verdict   string // a Verdict's name, "refused", or an attempt's outcome
	Policy    string // who decided, "" where nobody did
	Stage     string // where it decided
	Reply     message.Reply
	Reason    string
	NextHop   string // of attempts
	Peer      string // of attempts
	Size      int64
	Edits     []hooks.Edit // of a decision
}

// recentCount is how many verdicts are kept for the console.
const recentCount = 50

// recent is a ring of the last verdicts.
type recent struct {
	mu   sync.Mutex
	ring [recentCount]Event
	next int
}

func (l *recent) add(e Event) {
	l.mu.Lock()
	l.ring[l.next%recentCount] = e
	l.next++
	l.mu.Unlock()
}

// Recent lists the last verdicts, newest first, at most fifty.
func (r *Recorder) Recent() []Event {
	r.recent.mu.Lock()
	defer r.recent.mu.Unlock()
	n := min(r.recent.next, recentCount)
	list := make([]Event, 0, n)
	for i := range n {
		list = append(list, r.recent.ring[(r.recent.next-1-i)%recentCount])
	}
	return list
}

func eventOf(tx *hooks.Transaction, now time.Time) Event {
	e := Event{Time: now, ID: tx.Subject(), Client: tx.Session.Client.Addr().Unmap()}
	if tx.ID == "" {
		return e
	}
	e.Sender = tx.Sender.String()
	if len(tx.Recipients) > 0 {
		e.Recipient, e.More = tx.Recipients[0].Address.String(), len(tx.Recipients)-1
	}
	return e
}

// live writes events to a terminal.
type live struct {
	mu     sync.Mutex
	w      io.Writer
	colour bool
	line   []byte
}

// Live makes the recorder write one line for each refusal, verdict and delivery
// attempt to w, and for what policies did beside those: edits, and what a policy in
// shadow would have done; in colour or plain. A nil w ends that. Errors of w are ignored.
func (r *Recorder) Live(w io.Writer, colour bool) {
	if w == nil {
		r.live.Store(nil)
		return
	}
	r.live.Store(&live{w: w, colour: colour})
}

func (r *Recorder) show(e *Event) {
	l := r.live.Load()
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.line = e.append(l.line[:0], l.colour)
	_, _ = l.w.Write(l.line) // a terminal that is gone is no reason to stop mail
}

// Bounds of what a line tells of edits.
const (
	shownEdits = 3
	shownEdit  = 60 // bytes of one
)

// showRun shows what policies did at a stage, where no other line tells of it: a
// refusal has its own, a failure the log's, and an answer that changes nothing is none.
func (r *Recorder) showRun(tx *hooks.Transaction, run *hooks.StageRun) {
	if r.live.Load() == nil {
		return
	}
	for i := range run.Handlers {
		h := &run.Handlers[i]
		e := Event{Time: run.Time, ID: tx.Subject(), Verdict: h.Verb.String(), Policy: h.Policy, Stage: run.Stage.String(), Reason: h.Reason, Edits: h.Edits}
		switch {
		case h.Shadow && h.Err == nil && h.Verb != hooks.Pass && h.Verb != hooks.Accept:
			e.Verdict, e.Reply = "("+h.Verb.String()+")", h.Reply
		case len(h.Edits) == 0:
			continue
		case h.Shadow:
			e.Verdict = "(edit)"
		case h.Verb == hooks.Pass || h.Verb.Refuses():
			e.Verdict = "edit"
		}
		if run.Recipient != "" {
			e.Recipient, e.More = run.Recipient, 0
		}
		r.show(&e)
	}
}

// appendEdits adds some edits, short.
func appendEdits(b []byte, edits []hooks.Edit) []byte {
	for i, e := range edits {
		if i == shownEdits {
			b = append(b, "; +"...)
			return strconv.AppendInt(b, int64(len(edits)-i), 10)
		}
		if i > 0 {
			b = append(b, "; "...)
		}
		text := e.String()
		if short := clip(text, shownEdit); short != text {
			text = short + "…"
		}
		b = append(b, Clean(text)...)
	}
	return b
}

// append adds the event as a line for people: time, what, id and stage in columns,
// then who, and what about.
func (e *Event) append(b []byte, colour bool) []byte {
	p := paint(colour)
	b = e.Time.Local().AppendFormat(b, "15:04:05")
	b = append(b, ' ')
	b = append(b, p.verdict(e.Verdict, pad(e.Verdict, 11))...)
	b = append(b, ' ')
	b = append(b, p.dim(pad(e.ID, 15))...)
	b = append(b, ' ')
	stage := e.Stage
	if stage == "" && e.NextHop != "" {
		stage = "delivery"
	}
	b = append(b, pad(stage, 8)...)
	b = append(b, ' ')
	if e.Client.IsValid() {
		b = append(b, e.Client.String()...)
		b = append(b, ' ')
	}
	switch {
	case e.Sender == "" && e.Recipient == "":
	case len(e.Edits) > 0 || !e.Client.IsValid() && e.NextHop == "": // of a decision: its message has other lines
		b = append(b, '<')
		b = append(b, Clean(e.Recipient)...)
		b = append(b, "> "...)
	default:
		b = append(b, '<')
		b = append(b, Clean(e.Sender)...)
		b = append(b, "> → <"...)
		b = append(b, Clean(e.Recipient)...)
		b = append(b, '>')
		if e.More > 0 {
			b = append(b, " +"...)
			b = strconv.AppendInt(b, int64(e.More), 10)
		}
		b = append(b, ' ')
	}
	if e.NextHop != "" {
		b = append(b, "via "...)
		b = append(b, Clean(e.NextHop)...)
		b = append(b, ' ')
	}
	if e.Policy != "" {
		b = append(b, p.bold(Clean(e.Policy))...)
		b = append(b, ' ')
	}
	if !e.Reply.IsZero() {
		b = append(b, Clean(clip(e.Reply.String(), 200))...)
	}
	b = appendEdits(b, e.Edits)
	if e.Reason != "" {
		b = append(b, " ("...)
		b = append(b, Clean(clip(e.Reason, 200))...)
		b = append(b, ')')
	}
	return append(b, '\n')
}

// paint adds ANSI colours where it is true.
type paint bool

func (p paint) wrap(code, s string) string {
	if !p || s == "" {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

func (p paint) dim(s string) string  { return p.wrap("2", s) }
func (p paint) bold(s string) string { return p.wrap("1", s) }

// verdict colours text after the verdict, outcome or decision that name says.
func (p paint) verdict(name, text string) string {
	switch name {
	case "queued", "relayed", "delivered", "accept":
		return p.wrap("32", text)
	case "rejected", "bounced", "reject", "refused", "disconnect":
		return p.wrap("31", text)
	case "deferred", "defer":
		return p.wrap("33", text)
	case "edit":
		return p.wrap("36", text)
	case "held", "quarantined", "discarded", "hold", "quarantine", "discard":
		return p.wrap("35", text)
	}
	return p.wrap("2", text)
}

func pad(s string, n int) string {
	if k := n - utf8.RuneCountInString(s); k > 0 {
		return s + strings.Repeat(" ", k)
	}
	return s
}

// clip is at most n bytes of s, cut at a character's border.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// Clean makes a text from outside fit for a terminal: control characters,
// invalid UTF-8 and invisible characters become escapes such as \x1b or \u202e.
func Clean(s string) string {
	clean := true
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			clean = false
			break
		}
	}
	if clean {
		return s
	}
	b := make([]byte, 0, len(s)+16)
	for i, n := 0, 0; i < len(s); i += n {
		var c rune
		c, n = utf8.DecodeRuneInString(s[i:])
		switch {
		case c == utf8.RuneError && n <= 1, c < ' ', c == 0x7f:
			b = append(b, `\x`...)
			b = append(b, hexDigits[s[i]>>4], hexDigits[s[i]&15])
		case !unicode.IsPrint(c):
			q := strconv.QuoteRuneToASCII(c)
			b = append(b, q[1:len(q)-1]...)
		default:
			b = utf8.AppendRune(b, c)
		}
	}
	return string(b)
}

const hexDigits = "0123456789abcdef"
