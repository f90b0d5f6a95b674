package send

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/queue"
)

// to is a recipient with a NOTIFY parameter.
func to(address, notify string) queue.Recipient {
	a, err := message.ParseAddress(address)
	if err != nil {
		panic(err)
	}
	return queue.Recipient{Address: a, Notify: notify, Next: time.Now()}
}

// RFC 3461 sections 4.1, 5.2.2 and 5.2.3: who asked to hear of success hears of
// it from the last host that knows how: of a mailbox that has it, and of a host
// that will not tell. Nobody hears twice, and nobody who did not ask.
func TestSuccessNotices(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.answer = func(_ context.Context, _ *Job, rcpt string) Outcome {
			o := Outcome{Result: Delivered, Reply: message.NewReply(250, "2.1.5", "Saved"), Peer: "mx.example [192.0.2.1]:25"}
			switch {
			case strings.HasPrefix(rcpt, "relayed"):
				o.Reach = Relayed
			case strings.HasPrefix(rcpt, "handed"):
				o.Reach = Handed
			case strings.HasPrefix(rcpt, "fails"):
				o.Result, o.Reply = Bounced, message.NewReply(550, "5.1.1", "no")
			}
			return o
		}
	}, func(r *rig) {
		m := &queue.Message{Sender: sender, EnvID: "En+2BV1", Recipients: []queue.Recipient{
			to("relayed@x.example", "SUCCESS"), to("handed@x.example", "SUCCESS,FAILURE"), to("mailbox@x.example", "failure,success"),
			to("silent@x.example", ""), to("never@x.example", "NEVER"), to("relayed2@x.example", "FAILURE"), to("fails@x.example", "SUCCESS,FAILURE"),
			to("fails-unheard@x.example", "SUCCESS"),
		}}
		m.Recipients[0].Original = "rfc822;o+2Brig@example.net"
		r.s.Accepted(m, r.put(m))
		if r.left() != 0 || len(r.told()) != 2 {
			t.Fatalf("%d left, notices %+v", r.left(), r.told())
		}
		failure, success := r.told()[0], r.told()[1]
		if failure.Kind != Failure || success.Kind != Success || success.To != sender {
			t.Fatalf("%+v", r.told())
		}
		_, list, bodies := parts(t, success.Body)
		if len(list) != 3 || strings.HasPrefix(bodies[0], "Hi.") || strings.Count(bodies[1], "Final-Recipient") != 2 {
			t.Errorf("%s", success.Body)
		}
		for _, want := range []string{
			"Original-Envelope-Id: En+V1\r\nReporting-MTA: dns; ",
			"Original-Recipient: rfc822; o+rig@example.net\r\nFinal-Recipient: rfc822; relayed@x.example\r\nAction: relayed\r\nStatus: 2.1.9\r\nRemote-MTA: dns; mx.example\r\n",
			"Final-Recipient: rfc822; mailbox@x.example\r\nAction: delivered\r\nStatus: 2.1.5\r\n",
		} {
			if !strings.Contains(bodies[1], want) {
				t.Errorf("no %q in\n%s", want, bodies[1])
			}
		}
		if _, _, bodies = parts(t, failure.Body); strings.Count(bodies[1], "Final-Recipient") != 1 || !strings.Contains(bodies[1], "fails@x.example\r\nAction: failed") {
			t.Errorf("%s", bodies[1])
		}
		for _, from := range []*queue.Message{{}, {Double: true}} { // nobody to tell
			from.Recipients = []queue.Recipient{to("mailbox@x.example", "SUCCESS")}
			r.s.Accepted(from, r.put(from))
		}
		if r.left() != 0 || len(r.told()) != 2 {
			t.Errorf("%d left, %d notices", r.left(), len(r.told()))
		}
	})
}

// A success that could not be told before a crash is told behind it; the failure
// that was told already is not told again.
func TestSuccessNoticeSurvivesCrash(t *testing.T) {
	down := true
	inBubble(t, func(r *rig) {
		r.answer = func(ctx context.Context, j *Job, rcpt string) Outcome {
			if strings.HasPrefix(rcpt, "fails") {
				return refuse(ctx, j, rcpt)
			}
			return Outcome{Result: Delivered, Reply: message.NewReply(250, "", "ok"), Reach: Relayed}
		}
		r.o.Bounce = func(ctx context.Context, n *Notice) message.Reply {
			if n.Kind == Success && down {
				return message.NewReply(451, "4.3.1", "disk full")
			}
			return r.bounce(ctx, n)
		}
	}, func(r *rig) {
		m := &queue.Message{Sender: sender, Recipients: []queue.Recipient{to("a@x.example", "SUCCESS"), to("fails@x.example", "")}}
		r.s.Accepted(m, r.put(m))
		time.Sleep(3 * time.Minute)
		synctest.Wait()
		if r.left() != 1 || len(r.told()) != 1 {
			t.Fatalf("%d left, notices %+v", r.left(), r.told())
		}
		r.stop()
		down = false
		r.start()
		if r.left() != 0 || len(r.told()) != 2 || r.told()[1].Kind != Success || !strings.Contains(string(r.told()[1].Body), "Action: relayed") || r.count() != 1 {
			t.Errorf("%d left, notices %+v, attempts %v", r.left(), r.told(), r.tries())
		}
	})
}

// RFC 3461 section 4.3: RET=FULL brings the message back, up to a size, RET=HDRS
// its header section; a form that fits into no notice never comes back whole.
func TestReturnedContent(t *testing.T) {
	large := strings.Repeat(strings.Repeat("x", 70)+"\r\n", maxFull/72+1)
	for _, test := range []struct {
		name, ret, body string
		change          func(*queue.Message)
		whole           bool
	}{
		{"nothing said", "", "Subject: x\r\n\r\nbody\r\n", nil, false},
		{"headers", "HDRS", "Subject: x\r\n\r\nbody\r\n", nil, false},
		{"full", "full", "Subject: x\r\n\r\n.body\r\n", nil, true},
		{"full, 8-bit", "FULL", "Subject: x\r\n\r\nb\xf6dy\r\n", nil, true},
		{"full, large", "FULL", "Subject: x\r\n\r\n" + large, nil, false},
		{"full, binary", "FULL", "Subject: x\r\n\r\n\x00", func(m *queue.Message) { m.Binary = true }, false},
		{"full, SMTPUTF8", "FULL", "Subject: \u00e4\r\n\r\nx\r\n", func(m *queue.Message) { m.SMTPUTF8 = true }, false},
	} {
		inBubble(t, func(r *rig) { r.answer = refuse }, func(r *rig) {
			m := &queue.Message{Sender: sender, Ret: test.ret, Recipients: []queue.Recipient{to("a@x.example", "")}}
			if test.change != nil {
				test.change(m)
			}
			r.s.Accepted(m, r.putBody(m, test.body))
			if len(r.told()) != 1 {
				t.Fatalf("%s: notices %+v", test.name, r.told())
			}
			body := string(r.told()[0].Body)
			if got := strings.Contains(body, "Content-Type: message/rfc822\r\n"); got != test.whole || got != strings.Contains(body, "\r\n"+test.body+"\r\n--=_") {
				t.Errorf("%s: whole is %v:\n%.3000s", test.name, got, body)
			}
			if test.whole == strings.Contains(body, "text/rfc822-headers") || strings.Contains(test.body, "\xf6") != (strings.Count(body, "Transfer-Encoding: 8bit") == 2) {
				t.Errorf("%s:\n%.3000s", test.name, body)
			}
		})
	}
}

// RFC 3464 section 2.3 and RFC 6533 section 3.
func TestAddressForms(t *testing.T) {
	for in, want := range map[string]string{
		"rfc822;a+2Bb@x": "rfc822; a+b@x", "rfc822;a+b@x": "rfc822; a+b@x", "utf-8;jos\\x{E9}@x": "utf-8; jos\\x{E9}@x", "utf-8;jos\u00e9@x": "utf-8; jos\\x{E9}@x",
		"a@x": "rfc822; a@x", "jos\u00e9@x": "utf-8; jos\\x{E9}@x", `"a;b"@x`: `rfc822; "a;b"@x`, "X400;c=a+0D+0AX-Bad: 1": "X400; c=a  X-Bad: 1", "rfc822;+": "rfc822; +", "rfc822;+zz": "rfc822; +zz",
	} {
		if got := original(in); got != want {
			t.Errorf("%q is %q, want %q", in, got, want)
		}
	}
}
