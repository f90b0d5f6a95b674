package remote

import (
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/postern-mta/postern/core/queue"
	"github.com/postern-mta/postern/core/send"
)

// What is rewritten for a host is signed as it is rewritten, and what goes as it is keeps
// its signature.
func TestRewrittenIsSignedAnew(t *testing.T) {
	const ours, sig = "Received: from a\r\n\tby b\r\n", "DKIM-Signature: ours;\r\n b=x\r\n"
	const rest = "DKIM-Signature: theirs\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nGrüße aus der Ferne\r\n"
	const seven = "DKIM-Signature: theirs\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nGr=C3=BC=C3=9Fe aus der Ferne\r\n"
	var signs string
	var fails error
	again := func(old []byte, write func(io.Writer) error, _ time.Time) ([]byte, error) {
		if string(old) != sig {
			t.Errorf("old %q", old)
		}
		var b strings.Builder
		if err := write(&b); err != nil {
			return nil, err
		}
		if b.String() != ours+seven {
			t.Errorf("signed %q", b.String())
		}
		return []byte(signs), fails
	}
	s := newSink(t, func(s *sink) { s.ehlo = []string{"SIZE"} })
	able := newSink(t, func(s *sink) { s.ehlo = []string{"8BITMIME"} })
	for name, test := range map[string]struct {
		to    *sink
		again func([]byte, func(io.Writer) error, time.Time) ([]byte, error)
		signs string
		fails error
		want  string
	}{
		"signed anew": {s, again, "DKIM-Signature: new\r\n", nil, ours + "DKIM-Signature: new\r\n" + seven},
		"no key":      {s, again, "", nil, ours + seven},
		"no signer":   {s, nil, "", nil, ours + seven},
		"fails":       {s, again, "", errors.New("no way"), ""},
		"as it is":    {able, nil, "", nil, ours + sig + rest},
	} {
		t.Run(name, func(t *testing.T) {
			signs, fails = test.signs, test.fails
			j := jobTo(t, test.to, ours+sig+rest)
			j.Message.Signed = queue.Span{From: int64(len(ours)), To: int64(len(ours + sig))}
			c := newClient(t, nil)
			c.Reconfigure(Settings{Hostname: "mx.example.net", Again: test.again})
			o := outcomes(t, j, c.Deliver(t.Context(), j))[0]
			if test.fails != nil {
				if o.Result != send.Deferred || o.Reply.Status() != "4.3.0" {
					t.Errorf("%+v", o)
				}
				return
			}
			if got := test.to.got(); o.Result != send.Delivered || string(got[len(got)-1].data) != test.want {
				t.Errorf("%+v: %q", o, got[len(got)-1].data)
			}
		})
	}
}
