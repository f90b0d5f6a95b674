package send

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/queue"
	"github.com/postern-mta/postern/hooks"
)

// policy answers at its stages by a function.
type policy struct {
	stages []hooks.Stage
	answer func(at hooks.Stage, tx *hooks.Transaction) hooks.Decision
}

func (p *policy) Name() string          { return "policy" }
func (p *policy) Stages() []hooks.Stage { return p.stages }
func (p *policy) Handle(_ context.Context, at hooks.Stage, tx *hooks.Transaction) (hooks.Decision, error) {
	return p.answer(at, tx), nil
}

// withPolicy gives the rig a chain of one policy.
func withPolicy(r *rig, answer func(at hooks.Stage, tx *hooks.Transaction) hooks.Decision, stages ...hooks.Stage) {
	r.chain = hooks.NewChain([]hooks.Entry{{Name: "policy", Handler: &policy{stages, answer}}}, hooks.Options{})
}

func routeTo(url string) hooks.Decision {
	return hooks.Decision{Verb: hooks.Accept, Edits: []hooks.Edit{{Kind: hooks.SetRoute, Value: url}}}
}

func TestPoliciesOfDelivery(t *testing.T) {
	late := hooks.Decision{Verb: hooks.Defer, After: 15 * time.Minute, Reply: message.NewReply(450, "4.7.1", "not yet")}
	no := hooks.Decision{Verb: hooks.Reject, Reply: message.NewReply(550, "5.7.1", "never")}
	hold := hooks.Decision{Verb: hooks.Hold}
	for _, test := range []struct {
		name    string
		stage   hooks.Stage
		say     hooks.Decision
		outcome func(context.Context, *Job, string) Outcome
		want    []string // attempts within 20 minutes
		state   string   // of the recipient then
		last    int
	}{
		{"route elsewhere", hooks.Route, routeTo("smtp://192.0.2.99:26"), later, []string{"0s smtp://192.0.2.99:26 a@x.example", "6m40s smtp://192.0.2.99:26 a@x.example"}, "deferred", 450},
		{"route refuses", hooks.Route, no, ok, nil, "gone, told", 0},
		{"route defers", hooks.Route, late, ok, nil, "deferred", 450},
		{"route holds", hooks.Route, hold, ok, nil, "ready held", 0},
		{"route leads nowhere", hooks.Route, routeTo("gopher://x"), ok, nil, "deferred", 451},
		{"attempt refuses", hooks.Attempt, no, ok, nil, "gone, told", 0},
		{"attempt defers", hooks.Attempt, late, ok, nil, "deferred", 450},
		{"attempt holds", hooks.Attempt, hold, ok, nil, "ready held", 0},
		{"attempt elsewhere", hooks.Attempt, routeTo("smtp://192.0.2.99"), ok, []string{"0s smtp://192.0.2.99 a@x.example"}, "gone", 0},
		{"deferred: after", hooks.Deferred, late, later, []string{"0s mx a@x.example", "15m0s mx a@x.example"}, "deferred", 450},
		{"deferred: give up", hooks.Deferred, no, later, []string{"0s mx a@x.example"}, "gone, told", 0},
		{"deferred: hold", hooks.Deferred, hold, later, []string{"0s mx a@x.example"}, "deferred held", 450},
		{"deferred: elsewhere", hooks.Deferred, routeTo("smtp://192.0.2.99"), func(ctx context.Context, j *Job, rcpt string) Outcome {
			if j.NextHop.Scheme == "mx" {
				return later(ctx, j, rcpt)
			}
			return ok(ctx, j, rcpt)
		}, []string{"0s mx a@x.example", "0s smtp://192.0.2.99 a@x.example"}, "gone", 0},
		{"bounced: after", hooks.Bounced, late, refuse, []string{"0s mx a@x.example", "15m0s mx a@x.example"}, "deferred", 550},
		{"bounced: hold", hooks.Bounced, hold, refuse, []string{"0s mx a@x.example"}, "deferred held", 550},
		{"bounced: passes", hooks.Bounced, hooks.Decision{}, refuse, []string{"0s mx a@x.example"}, "gone, told", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			inBubble(t, func(r *rig) {
				r.answer = test.outcome
				withPolicy(r, func(at hooks.Stage, tx *hooks.Transaction) hooks.Decision {
					if tx.Try == nil || tx.Try.Attempt < 1 || tx.Current == nil || tx.Current.Address.String() != "a@x.example" || tx.Sender != sender {
						t.Errorf("%s sees %+v", at, tx)
					}
					return test.say
				}, test.stage)
			}, func(r *rig) {
				m := r.accept("a@x.example")
				time.Sleep(20 * time.Minute)
				r.expect(test.want...)
				state := "gone"
				if r.left() > 0 {
					to := r.load(m.ID).Recipients[0]
					state = to.State.String()
					if to.Held {
						state += " held"
					}
					if to.Last.Code != test.last {
						t.Errorf("last reply %v", to.Last)
					}
				}
				if len(r.told()) > 0 {
					state += ", told"
				}
				if state != test.state {
					t.Errorf("it is %q, want %q", state, test.state)
				}
			})
		})
	}
}

func TestNotesAndRoutesAreKept(t *testing.T) {
	var seen []any
	inBubble(t, func(r *rig) {
		r.answer = later
		withPolicy(r, func(at hooks.Stage, tx *hooks.Transaction) hooks.Decision {
			seen = append(seen, tx.Notes["n"])
			n, _ := tx.Notes["n"].(float64)
			d := hooks.Decision{Edits: []hooks.Edit{{Kind: hooks.SetNote, Name: "n", Any: n + 1}}}
			if n == 0 {
				d.Edits = append(d.Edits, hooks.Edit{Kind: hooks.SetRoute, Value: "smtp://192.0.2.99"})
			}
			return d
		}, hooks.Route)
	}, func(r *rig) {
		m := r.accept("a@x.example")
		time.Sleep(30 * time.Minute)
		r.expect("0s smtp://192.0.2.99 a@x.example", "6m40s smtp://192.0.2.99 a@x.example", "26m40s smtp://192.0.2.99 a@x.example")
		if !slices.Equal(seen, []any{nil, 1.0, 2.0}) {
			t.Errorf("seen %v", seen)
		}
		if to := r.load(m.ID).Recipients[0]; to.Route != "smtp://192.0.2.99" {
			t.Errorf("%+v", to)
		}
	})
}

func TestDeliveredIsToldAfterItIsDurable(t *testing.T) {
	inBubble(t, func(r *rig) {
		withPolicy(r, func(_ hooks.Stage, tx *hooks.Transaction) hooks.Decision {
			if n := tx.Try.Reply.Code; n != 250 {
				t.Errorf("code %d", n)
			}
			if _, err := r.q.Load(tx.ID); err == nil {
				t.Error("it is told before it left")
			}
			return hooks.Decision{}
		}, hooks.Delivered)
	}, func(r *rig) {
		r.accept("a@x.example")
		synctest.Wait()
		r.chain.Wait()
		if c := r.chain.Counts()[0]; c.Calls != 1 {
			t.Errorf("%d calls", c.Calls)
		}
	})
}

// A policy that sends mail round in circles is stopped.
func TestRoutesInCircles(t *testing.T) {
	for _, at := range []hooks.Stage{hooks.Attempt, hooks.Deferred, hooks.Bounced} {
		inBubble(t, func(r *rig) {
			r.answer = later
			if at == hooks.Bounced {
				r.answer = refuse
			}
			withPolicy(r, func(_ hooks.Stage, tx *hooks.Transaction) hooks.Decision {
				if strings.HasSuffix(tx.Try.NextHop, "98") {
					return routeTo("smtp://192.0.2.99")
				}
				return routeTo("smtp://192.0.2.98")
			}, at)
		}, func(r *rig) {
			r.accept("a@x.example")
			time.Sleep(time.Minute)
			if n := r.count(); n == 0 || n > maxReroutes+1 {
				t.Errorf("%s: %d attempts in a minute", at, n)
			}
		})
	}
}

func TestRouteMatching(t *testing.T) {
	hop := func(host string) NextHop { return NextHop{Scheme: "smtp", Host: host} }
	inBubble(t, func(r *rig) {
		r.c.Routes = Routes{
			{ToAddress: []string{"boss@x.example"}, NextHop: hop("1")},
			{ToDomain: []string{"*.x.example"}, FromDomain: []string{"client.example"}, NextHop: hop("2")},
			{FromAddress: []string{""}, NextHop: hop("3")},
			{Tag: []string{"bulk"}, NextHop: hop("4")},
			{ToDomain: []string{"x.example", "y.example"}, NextHop: hop("5")},
			{ToDomain: []string{"*"}, NextHop: hop("6")},
		}
	}, func(r *rig) {
		for _, test := range []struct {
			from  message.Address
			to    string
			facts string
			want  string
		}{
			{sender, "Boss@X.example", "", "1"},
			{sender, "a@b.x.example", "", "2"},
			{message.Address{Local: "s", Domain: "other.example"}, "a@b.x.example", "", "6"},
			{message.Address{}, "a@b.x.example", "", "3"},
			{sender, "a@x.example", `{"tags":["bulk"]}`, "4"},
			{sender, "a@x.example", `{"tags":["other"]}`, "5"},
			{sender, "a@z.example", `not JSON`, "6"},
		} {
			m := &queue.Message{Sender: test.from, Facts: []byte(test.facts)}
			r.s.Accepted(m, r.put(m, test.to))
			r.attempts()
			tries := r.tries()
			if got := tries[len(tries)-1].hop; got != "smtp://"+test.want {
				t.Errorf("%s to %s with %s goes to %s, want %s", test.from.Path(), test.to, test.facts, got, test.want)
			}
		}
	})
}

func TestParseNextHop(t *testing.T) {
	for in, want := range map[string]string{
		"mx": "mx", "local": "local", "discard": "discard", "smtp://hub.example": "smtp://hub.example", "smtp://hub.example:2525": "smtp://hub.example:2525",
		"smtp://192.0.2.1:26": "smtp://192.0.2.1:26", "smtp://[2001:db8::1]:26": "smtp://[2001:db8::1]:26", "smtp://[2001:db8::1]": "smtp://[2001:db8::1]", "smtp://2001:db8::1": "smtp://[2001:db8::1]",
		"smtps://hub.example": "smtps://hub.example", "lmtp://[::1]:24": "lmtp://[::1]:24", "lmtp:///run/dovecot/lmtp": "lmtp:///run/dovecot/lmtp",
		"smtp:///run/x": "", "smtps://": "", "lmtp://": "", "lmtp:///a\nb": "", "lmtp:///" + strings.Repeat("x", 107): "", "qmqp://x": "qmqp://x", "qmqp://192.0.2.1,192.0.2.2:6280,[::1]:628": "qmqp://192.0.2.1,192.0.2.2:6280,[::1]:628", "qmqp://": "", "qmqp://x,": "", "qmqp://x:0": "", "qmqp:///run/x": "",
		"": "", "smtp://": "", "smtp://[::1": "", "smtp://[::1]x": "", "smtp://a b": "", "smtp://h:0": "", "smtp://h:99999": "", "smtp://h:smtp": "", "smtp://-x": "", "http://x": "", "smtp://fe80::1%eth0": "",
	} {
		got, err := ParseNextHop(in)
		if (err == nil) != (want != "") || err == nil && got.String() != want {
			t.Errorf("%q is %q, %v; want %q", in, got, err, want)
		}
	}
}

// A policy that chooses another next hop does not give the route's password to it.
func TestPasswordStaysWithItsNextHop(t *testing.T) {
	hub := NextHop{Scheme: SchemeSMTP, Host: "hub.example"}
	c := &Config{Routes: Routes{{ToDomain: []string{"*"}, NextHop: hub, TLS: "verify", Auth: Login{User: "u", PasswordFile: "/p"}, Source: netip.MustParseAddr("192.0.2.9")}}}
	m, rcpt := &queue.Message{}, message.Address{Local: "a", Domain: "x.example"}
	for set, auth := range map[string]bool{"": true, "smtp://hub.example": true, "smtp://other.example": false, "mx": false} {
		h, err := c.hop(m, rcpt, set, nil)
		if err != nil || (h.Auth != Login{}) != auth || h.TLS != "verify" || !h.Source.IsValid() {
			t.Errorf("%q: %+v, %v", set, h, err)
		}
	}
}

func FuzzParseNextHop(f *testing.F) {
	for _, s := range []string{"mx", "smtps://h", "lmtp:///run/lmtp", "smtp://h:25", "smtp://[::1]:25", "smtp://::1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := ParseNextHop(s)
		if err != nil {
			return
		}
		again, err := ParseNextHop(n.String())
		if err != nil || again != n {
			t.Fatalf("%q is %+v, which as %q is %+v, %v", s, n, n.String(), again, err)
		}
	})
}

func TestRetryTables(t *testing.T) {
	birth := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	s := time.Second
	for _, test := range []struct {
		name      string
		plan      Retry
		age, next time.Duration
	}{
		{"remote", Quadratic(SkipRemote), 0, 400 * s},
		{"remote", Quadratic(SkipRemote), 243 * s, 1225 * s}, // measured on qmail
		{"remote", Quadratic(SkipRemote), 400 * s, 1600 * s},
		{"remote", Quadratic(SkipRemote), 6400 * s, 10000 * s},
		{"remote", Quadratic(SkipRemote), 604800 * s, (777 + 20) * (777 + 20) * s},
		{"remote, clock went back", Quadratic(SkipRemote), -time.Hour, 400*s - time.Hour},
		{"local", Quadratic(SkipLocal), 0, 100 * s},
		{"local", Quadratic(SkipLocal), 100 * s, 400 * s},
		{"list", Delays([]time.Duration{60 * s, 300 * s}), 0, 60 * s},
		{"list", Delays([]time.Duration{60 * s, 300 * s}), 60 * s, 360 * s},
		{"list", Delays([]time.Duration{60 * s, 300 * s}), 61 * s, 360 * s},
		{"list", Delays([]time.Duration{60 * s, 300 * s}), 360 * s, 660 * s},
		{"list", Delays([]time.Duration{60 * s, 300 * s}), 10000 * s, 10260 * s},
		{"empty list", Delays(nil), 0, 400 * s},
		{"list of nothing", Delays([]time.Duration{0}), 0, 400 * s},
		{"growing", Growing(Growth{Start: 60 * s, Factor: 2, Max: 200 * s}), 0, 60 * s},
		{"growing", Growing(Growth{Start: 60 * s, Factor: 2, Max: 200 * s}), 60 * s, 180 * s},
		{"growing to its longest", Growing(Growth{Start: 60 * s, Factor: 2, Max: 200 * s}), 180 * s, 380 * s},
		{"growing to its longest", Growing(Growth{Start: 60 * s, Factor: 2, Max: 200 * s}), 380 * s, 580 * s},
		{"growing, much later", Growing(Growth{Start: 60 * s, Factor: 2, Max: 200 * s}), 10000 * s, 10180 * s},
		{"alike", Growing(Growth{Start: 60 * s, Factor: 1, Max: 60 * s}), 0, 60 * s},
		{"alike", Growing(Growth{Start: 60 * s, Factor: 1, Max: 9000 * s}), 86_400 * s, 86_460 * s},
	} {
		if got := test.plan(birth, birth.Add(test.age)).Sub(birth); got != test.next && !strings.Contains(test.name, "back") {
			t.Errorf("%s at %v: %v, want %v", test.name, test.age, got, test.next)
		}
	}
	for _, plan := range []Retry{
		Quadratic(SkipRemote), Quadratic(SkipLocal), Delays([]time.Duration{s, time.Hour}),
		Growing(Growth{Start: s, Factor: 1.5, Max: time.Hour, Jitter: 1}), Growing(Growth{Start: s, Factor: 1, Max: s, Jitter: 0.5}), Growing(Growth{}),
	} {
		for age := -48 * time.Hour; age < 240*time.Hour; age += 1237 * s {
			if now := birth.Add(age); !plan(birth, now).After(now) {
				t.Errorf("at %v the next try is not later", age)
			}
		}
	}
}

// What failed in one second is tried over the part of the wait that jitter names, in
// no order, and a restart changes none of it.
func TestJitterSpreads(t *testing.T) {
	g := Growth{Start: 100 * time.Second, Factor: 2, Max: 1000 * time.Second, Jitter: 0.5}
	birth := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	var early, late int
	for i := range 1000 {
		b := birth.Add(time.Duration(i) * time.Millisecond)
		wait := Growing(g)(b, b).Sub(b)
		if wait < 100*time.Second || wait > 150*time.Second {
			t.Fatalf("the first wait is %v", wait)
		}
		if wait != Growing(g)(b, b).Sub(b) {
			t.Fatal("the plan is not the same each time")
		}
		switch {
		case wait < 110*time.Second:
			early++
		case wait > 140*time.Second:
			late++
		}
	}
	if early < 100 || late < 100 {
		t.Errorf("of 1000 waits %d are in the first fifth of the jitter and %d in the last", early, late)
	}
}
