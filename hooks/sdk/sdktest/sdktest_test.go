package sdktest_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postern-mta/postern/core/store"
	"github.com/postern-mta/postern/hooks"
	"github.com/postern-mta/postern/hooks/sdk"
	"github.com/postern-mta/postern/hooks/sdk/sdktest"
)

// words is a policy with everything.
type words struct {
	Words []string `postern:"words" default:"casino"`
	base  int64
}

func (w *words) Prepare(ctx context.Context) (err error) {
	w.base, err = sdk.HostOf(ctx).Incr(ctx, sdk.Key{"starts"}, 1, 0)
	return err
}

func (w *words) Connect(context.Context, *sdk.Event) (sdk.Decision, error) {
	return sdk.Defer("4.7.0", "Not at night"), nil
}

func (w *words) Rcpt(ctx context.Context, ev *sdk.Event) (sdk.Decision, error) {
	allowed, _, err := sdk.HostOf(ctx).Take(ctx, sdk.Key{"rate", ev.Sender.String()}, 1, 2, time.Minute)
	if err != nil || !allowed {
		return sdk.Defer("4.7.1", "Slower"), err
	}
	return sdk.Pass(), nil
}

func (w *words) Message(ctx context.Context, ev *sdk.Event) (sdk.Decision, error) {
	text, err := io.ReadAll(ev.Stream)
	if err != nil {
		return sdk.Decision{}, err
	}
	for _, word := range w.Words {
		if strings.Contains(string(text), word) {
			sdk.HostOf(ctx).Count("words", map[string]string{"word": word}, 1)
			ev.Prepend("X-Word", word)
			ev.Score("words", 2, word)
		}
	}
	switch {
	case strings.Contains(string(text), "fails"):
		return sdk.Decision{}, errors.New("no dictionary")
	case strings.Contains(string(text), "injects"):
		ev.Prepend("X-A", "a\r\nb")
	case strings.Contains(string(text), "holds"):
		return sdk.Hold("not here"), nil
	}
	return sdk.Pass(), nil
}

func (w *words) Deny(context.Context, *sdk.Event) (sdk.Decision, error) {
	return sdk.Reject("5.0.0", "harder"), nil
}

func policy() sdk.Policy {
	return sdk.Policy{Name: "words", Handler: &words{}, Access: sdk.Stream()}
}

func TestPolicy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := sdktest.New(t, policy(), map[string]any{"words": []any{"casino", "lottery"}})
		b, ok, err := p.Store.Get(t.Context(), store.Key("starts"))
		if err != nil || !ok || string(b) != "1" {
			t.Errorf("starts: %q, %v", b, err)
		}
		p.Ask(hooks.Connect, sdktest.Conn()).Defers("4.7.0", "night")
		for range 2 {
			p.Ask(hooks.Rcpt, sdktest.Rcpt("one@example.net", "two@example.net")).Passes()
		}
		p.Ask(hooks.Rcpt, sdktest.Rcpt("one@example.net")).Defers("4.7.1", "Slower")
		time.Sleep(time.Minute) // of the bubble
		p.Ask(hooks.Rcpt, sdktest.Rcpt("one@example.net")).Passes()

		p.Ask(hooks.Message, sdktest.Mail("Subject: x\n\na lottery\n")).Passes().Field("X-Word", "lottery").
			Edited(hooks.Edit{Kind: hooks.AddScore, Number: 2}).Edited(hooks.Edit{Kind: hooks.AddHeader, Name: "X-Word"})
		if got := p.Counted("words", map[string]string{"word": "lottery"}); got != 1 {
			t.Errorf("counted %v", got)
		}
		p.Fails(hooks.Message, sdktest.Mail("\nfails"), "no dictionary")
		p.Fails(hooks.Message, sdktest.Mail("Subject: x\n\ninjects"), "headers:prepend")
		p.Fails(hooks.Message, sdktest.Mail("\nholds"), "hold")
		p.Fails(hooks.Mail, sdktest.Mail(""), "not asked there")
		p.Ask(hooks.Deny, sdktest.Mail("")).Rejects("5.0.0", "harder")
	})
}

// recorded is a test that may fail.
type recorded struct {
	testing.TB
	errors int
}

func (r *recorded) Helper()               {}
func (r *recorded) Errorf(string, ...any) { r.errors++ }

// What is expected in vain fails the test.
func TestExpectationsFail(t *testing.T) {
	r := &recorded{TB: t}
	a := sdktest.New(r, policy(), nil).Ask(hooks.Message, sdktest.Mail("Subject: x\n\ncasino\n"))
	a.Rejects("", "")
	a.Accepts()
	a.Field("X-Word", "other")
	a.Edited(hooks.Edit{Kind: hooks.AddScore, Number: 3})
	a.Edited(hooks.Edit{Kind: hooks.AddTag})
	if r.errors != 5 {
		t.Errorf("%d of 5 failed", r.errors)
	}
}
