package plugin_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
	"github.com/postern-mta/postern/hooks/plugin"
)

// An answer that is none, comes twice, too late, or is half of one, is a failure
// of that call: never a verdict, and never one of another call.
func TestRogueAnswers(t *testing.T) {
	p := load(t, "rogue", plugin.Options{})
	well := func(id string) {
		t.Helper()
		tx := mail("x")
		tx.ID = id
		if d, err := ask(t, p, hooks.Mail, tx); err != nil || d.Verb != hooks.Reject || d.Reply.Text != "for "+id {
			t.Errorf("%s: %+v, %v", id, d, err)
		}
	}
	well("BEFORE1")
	for _, c := range []struct {
		sender string
		want   error
	}{
		{"twice", plugin.ErrAnswer},
		{"scrambled", plugin.ErrAnswer},
		{"giant", plugin.ErrAnswer},
		{"never", plugin.ErrAnswer},
		{"garbage", plugin.ErrEnded},
		{"half", plugin.ErrEnded},
	} {
		d, err := ask(t, p, hooks.Mail, mail(c.sender))
		if !errors.Is(err, c.want) || d.Verb != hooks.Pass || len(d.Edits) > 0 {
			t.Errorf("%s: %v %d edits, %v", c.sender, d.Verb, len(d.Edits), err)
		}
		well("AFTER" + c.sender)
	}
	for range 2 {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if d, err := p.Handle(ctx, hooks.Mail, mail("late")); !errors.Is(err, context.DeadlineExceeded) || d.Verb != hooks.Pass {
			t.Errorf("late: %+v, %v", d, err)
		}
		cancel()
		well("AFTERLATE") // while the late one is being answered
	}
}

// A plugin that ends in the middle of its new body: the message is deferred, and
// what it was is neither accepted nor changed. The next one is replaced as a whole.
func TestDiesInBodyReplace(t *testing.T) {
	p := load(t, "rogue", plugin.Options{})
	chain := hooks.NewChain([]hooks.Entry{{Name: "rogue", Handler: p}}, hooks.Options{})
	text := "Subject: x\r\nContent-Type: text/html\r\n\r\n<script>dirty</script>\r\n"
	run := func(sender string) (hooks.Decision, *hooks.Transaction) {
		tx := mail(sender)
		n, _ := message.HeaderLen([]byte(text))
		tx.Header, tx.Body = message.ParseHeader([]byte(text[:n])), message.Bytes(text)
		return chain.Run(t.Context(), hooks.Message, tx), tx
	}
	d, tx := run("half")
	if d.Verb != hooks.Defer || !strings.HasPrefix(d.Reply.String(), "451 4.3.0 ") || tx.Content != 0 || !strings.Contains(string(tx.Header.Bytes()), "text/html") {
		t.Errorf("%v %s, content %v", d.Verb, d.Reply, tx.Content)
	}
	d, tx = run("replace")
	if d.Verb != hooks.Pass || tx.Content == 0 || strings.Contains(string(tx.Header.Bytes()), "text/html") {
		t.Errorf("%v %s, content %v", d.Verb, d.Reply, tx.Content)
	}
}

// atHeaders is a handler that is asked at stage headers alone.
type atHeaders struct{ hooks.Handler }

func (atHeaders) Stages() []hooks.Stage { return []hooks.Stage{hooks.Headers} }

// A header field that would be two, or a line over 998 bytes, is refused together
// with all edits of its decision; a long text is folded.
func TestHeaderInjection(t *testing.T) {
	p := load(t, "probe", plugin.Options{})
	chain := hooks.NewChain([]hooks.Entry{{Name: "probe", Handler: atHeaders{p}}}, hooks.Options{})
	const before = "Subject: one\r\nX-Old: old\r\n"
	run := func(sender string) (hooks.Decision, *hooks.Transaction) {
		tx := mail(sender)
		tx.Recipients = []*hooks.Recipient{{Address: message.Address{Local: "first", Domain: "example.net"}}}
		tx.Header = message.ParseHeader([]byte(before))
		return chain.Run(t.Context(), hooks.Headers, tx), tx
	}
	for _, sender := range []string{"line", "feed", "name", "own", "longname"} {
		d, tx := run(sender)
		if d.Verb != hooks.Defer || string(tx.Header.Bytes()) != before || tx.Tagged("before") || len(tx.Recipients[0].Edits) > 0 {
			t.Errorf("%s: %v %s\n%s", sender, d.Verb, d.Reply, tx.Header.Bytes())
		}
	}
	for _, sender := range []string{"word", "sentence"} {
		d, tx := run(sender)
		for line := range strings.Lines(string(tx.Header.Bytes())) {
			if len(line) > 998+len("\r\n") {
				t.Errorf("%s: a line of %d bytes", sender, len(line))
			}
		}
		if changed := string(tx.Header.Bytes()) != before; changed != (d.Verb == hooks.Pass) || changed != tx.Tagged("before") || sender == "sentence" && !changed {
			t.Errorf("%s: %v, changed %v", sender, d.Verb, changed)
		}
	}
}
