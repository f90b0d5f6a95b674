package send

import (
	"context"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/queue"
)

// Result is what became of one recipient in one attempt.
type Result uint8

// The results.
const (
	Deferred Result = iota // not now: the zero value, since what is not clear is temporary
	Delivered
	Bounced
)

// String is the result's name in JSON, metrics and logs.
func (r Result) String() string {
	return [...]string{"deferred", "delivered", "bounced"}[min(r, Bounced)]
}

// NextHop is where a route leads.
type NextHop struct {
	Scheme string // smtp, mx, local or discard; later smtps, lmtp, qmqp, pipe
	Host   string // of smtp: a name or an address
	Port   string // of smtp; "" means 25
}

// String is the next hop as a configuration writes it.
func (n NextHop) String() string {
	if n.Scheme != "smtp" {
		return n.Scheme
	}
	s := "smtp://"
	if len(n.Host) > 0 && n.Host[0] != '[' && containsColon(n.Host) {
		s += "[" + n.Host + "]"
	} else {
		s += n.Host
	}
	if n.Port != "" {
		s += ":" + n.Port
	}
	return s
}

func containsColon(s string) bool {
	for i := range len(s) {
		if s[i] == ':' {
			return true
		}
	}
	return false
}

// Job is one attempt: one message, those of its recipients that share a
// destination, and the way there.
type Job struct {
	Message    *queue.Message // must not be changed
	Recipients []int          // indices into Message.Recipients
	Body       message.Body   // the stored message, trace fields included
	NextHop    NextHop
	Domain     string // of the recipients, where NextHop is mx
	TLS        string // none or may; later encrypt, verify, dane
}

// Outcome is what one recipient got.
type Outcome struct {
	Recipient int // index into Message.Recipients
	Result    Result
	Reply     message.Reply // what the peer said, or what we say of a failure of our own
	Peer      string        // name and address of who said it: "mx.example [192.0.2.1]:25", "" where nobody was reached
	TLS       string        // "TLSv1.3 TLS_AES_128_GCM_SHA256" or ""
	Unreached bool          // no conversation came about: the destination itself is in trouble
	Duration  time.Duration
}

// Deliverer makes one attempt. It answers with one Outcome for each of the
// job's recipients, whatever happens, and returns soon after ctx is done. It is
// called from many goroutines at once.
type Deliverer interface {
	Deliver(ctx context.Context, j *Job) []Outcome
}
