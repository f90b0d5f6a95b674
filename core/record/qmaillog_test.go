package record

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/postern-mta/postern/core/message"
)

// TestQmailNumbers: an id's numbers are its own, fit into 63 bits, and lead back to it.
func TestQmailNumbers(t *testing.T) {
	seen := map[uint64]string{}
	for i := range 10_000 {
		id := message.NewID(time.UnixMilli(1_795_850_474_006 + int64(i%7)))
		n, qp := QmailNumbers(id)
		if back, ok := QmailID(n, qp); !ok || back != id || n>>63 != 0 || seen[n] != "" {
			t.Fatalf("%s: %d %d, back %q %v", id, n, qp, back, ok)
		}
		seen[n] = id
	}
	for _, id := range []string{"00000000", "zzzzzzzzzzzzzzz", "a.b"} {
		if n, qp := QmailNumbers(id); n>>63 != 0 {
			t.Errorf("%s: %d %d", id, n, qp)
		}
	}
	if id, ok := QmailID(12, 34); ok {
		t.Errorf("%q of nothing", id)
	}
}

// TestQmailLines: what qmail-send's readers count on, line by line.
func TestQmailLines(t *testing.T) {
	var b bytes.Buffer
	lines := NewQmailLog(&b)
	r, err := Open(t.TempDir(), Options{Qmail: lines, Off: true, Log: slog.New(lines.Handler(slog.LevelInfo))})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	const id, bounce = "000000000000001", "000000000000002"
	a := func(name string) message.Address { return message.Address{Local: name, Domain: "x.example"} }
	r.Limits(10, 20)
	r.Limits(10, 20)
	r.Entered(id, a("a b%\n"), false, 77, "")
	r.Entered(bounce, message.Address{}, true, 5, "1000")
	first := r.Begin(id, false, []string{"x@x.example", "y z@x.example"})
	r.Attempt(id, Attempt{Delivery: first, NextHop: "mx", Peer: "mx.x.example [192.0.2.1]:25", Outcome: "delivered", Reply: message.NewReply(250, "2.0.0", "Ok\n100%s", "%"), Queued: true})
	r.Attempt(id, Attempt{Delivery: first + 1, NextHop: "mx", Outcome: "deferred", Reply: message.NewReply(451, "4.4.1", "No answer"), Queued: true})
	r.End(false)
	r.Attempt(id, Attempt{NextHop: "local", Recipient: "l@x.example", Outcome: "delivered", Queued: true})
	r.Attempt(id, Attempt{NextHop: "local", Recipient: "m@x.example", Outcome: "delivered", Reply: message.NewReply(250, "2.0.0", "I did it\ndid 0+1+1\nqp 7"), Queued: true})
	r.Attempt(id, Attempt{NextHop: "local", Recipient: "n@x.example", Outcome: "bounced", Reply: message.NewReply(550, "5.3.0", "No\nThe program refused the message"), Queued: true})
	r.Attempt(id, Attempt{NextHop: "mx", Recipient: "p@x.example", Outcome: "delivered"}) // in proxy mode
	r.Bounced(id, bounce)
	r.Dropped(bounce)
	r.Left(id, time.Second)
	r.Operated(bounce, "deleted", "operator", "")
	slog.New(lines.Handler(slog.LevelInfo)).With("k", "v w").WithGroup("g").Warn("a\nb", "n", 1)
	slog.New(lines.Handler(slog.LevelInfo)).Error("bad")
	slog.New(lines.Handler(slog.LevelInfo)).Info("not told")
	slog.New(lines.Handler(slog.LevelDebug)).Info("told", slog.Group("h", "x", "y"))
	r.Stopping()
	r.Stopped()
	got := b.String()
	if i := strings.Index(got, " uid "); i < 0 {
		t.Fatal(got)
	} else if uid, _, _ := strings.Cut(got[i+5:], "\n"); true {
		got = strings.ReplaceAll(got, " uid "+uid+"\n", " uid U\n")
	}
	want := `status: local 0/10 remote 0/20
new msg 1
info msg 1: bytes 77 from <"a_b_/"@x.example> qp 0 uid U
new msg 2
info msg 2: bytes 5 from <#@[]> qp 0 uid 1000
starting delivery 1: msg 1 to remote x@x.example
starting delivery 2: msg 1 to remote y_z@x.example
status: local 0/10 remote 1/20
delivery 1: success: 192.0.2.1_accepted_message./Remote_host_said:_250_2.0.0_Ok/100_/
delivery 2: deferral: 451_4.4.1_No_answer/
status: local 0/10 remote 0/20
starting delivery 3: msg 1 to local l@x.example
delivery 3: success: did_1+0+0/
starting delivery 4: msg 1 to local m@x.example
delivery 4: success: I_did_it/did_0+1+1/qp_7/
starting delivery 5: msg 1 to local n@x.example
delivery 5: failure: 550_5.3.0_No/The_program_refused_the_message/
bounce msg 1 qp 0
triple bounce: discarding bounce/2
end msg 1
end msg 2
warning: a\x0ab k="v w" g.n=1
alert: bad
notice: told h.x=y
status: local 0/10 remote 0/20 exitasap
status: exiting
`
	if got != want {
		t.Errorf("\n%s\nwant\n%s", got, want)
	}
}
