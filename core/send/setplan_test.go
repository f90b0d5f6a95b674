package send

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/postern-mta/postern/hooks"
)

// TestPlanOfAPolicy: what a policy of stage route sets of the plan is how the attempt
// is made, and is refused as the configuration refuses it.
func TestPlanOfAPolicy(t *testing.T) {
	for _, c := range []struct {
		name, value string
		want        []string // attempts within an hour: time, TLS and source
	}{
		{"tls", "verify", []string{"0s verify ", "6m40s verify ", "26m40s verify ", "1h0m0s verify "}},
		{"source", "192.0.2.77", []string{"0s may 192.0.2.77", "6m40s may 192.0.2.77", "26m40s may 192.0.2.77", "1h0m0s may 192.0.2.77"}},
		{"retry", "10m, 20m", []string{"0s may ", "10m0s may ", "30m0s may ", "50m0s may "}},
		{"retry", "30m", []string{"0s may ", "30m0s may ", "1h0m0s may "}},
		{"retry", "quadratic", []string{"0s may ", "6m40s may ", "26m40s may ", "1h0m0s may "}},
		{"tls", "always", nil},
		{"tls", "", nil},
		{"source", "mx.example", nil},
		{"source", "fe80::1%eth0", nil},
		{"retry", "soon", nil},
		{"retry", "0s", nil},
		{"retry", ",", nil},
	} {
		t.Run(c.name+" "+c.value, func(t *testing.T) {
			var got []string
			var seen hooks.Try
			inBubble(t, func(r *rig) {
				began := time.Now()
				r.answer = func(ctx context.Context, j *Job, rcpt string) Outcome {
					source := ""
					if j.Source.IsValid() {
						source = j.Source.String()
					}
					got = append(got, fmt.Sprintf("%v %s %s", time.Since(began), j.TLS, source))
					return later(ctx, j, rcpt)
				}
				withPolicy(r, func(at hooks.Stage, tx *hooks.Transaction) hooks.Decision {
					if at == hooks.Attempt {
						seen = *tx.Try
						return hooks.Decision{}
					}
					return hooks.Decision{Edits: []hooks.Edit{{Kind: hooks.SetPlan, Name: c.name, Value: c.value}}}
				}, hooks.Route, hooks.Attempt)
			}, func(r *rig) {
				m := r.accept("a@x.example")
				time.Sleep(time.Hour + time.Second)
				r.tries()
				if fmt.Sprint(got) != fmt.Sprint(c.want) {
					t.Errorf("attempts %q, want %q", got, c.want)
				}
				last := r.load(m.ID).Recipients[0].Last
				if c.want == nil && last.Status() != "4.3.5" {
					t.Errorf("last reply %s", last)
				}
				if c.want != nil && c.value != map[string]string{"tls": seen.TLS, "source": seen.Source, "retry": seen.Retry}[c.name] {
					t.Errorf("at attempt: %+v", seen)
				}
			})
		})
	}
}

// TestPlansOfTheirOwn: recipients of one destination whose plans differ are tried as
// each one's plan says.
func TestPlansOfTheirOwn(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.answer = later
		withPolicy(r, func(_ hooks.Stage, tx *hooks.Transaction) hooks.Decision {
			if tx.Current.Address.Local != "b" {
				return hooks.Decision{}
			}
			return hooks.Decision{Edits: []hooks.Edit{{Kind: hooks.SetPlan, Name: "retry", Value: "2m"}}}
		}, hooks.Route)
	}, func(r *rig) {
		r.accept("a@x.example", "b@x.example", "c@x.example")
		time.Sleep(5 * time.Minute)
		got := r.attempts()
		slices.Sort(got) // those of one moment run beside each other
		if want := []string{"0s mx a@x.example,c@x.example", "0s mx b@x.example", "2m0s mx b@x.example", "4m0s mx b@x.example"}; !slices.Equal(got, want) {
			t.Errorf("attempts %q", got)
		}
	})
}

func FuzzParseRetry(f *testing.F) {
	for _, s := range []string{"", "quadratic", "5m, 15m 1h", "1h30m", "7d,,1w", "99999999999d", "m", "5", "-5m", "start=5m factor=2 max=4h jitter=0.2", "start=1s,factor=1,max=1s", "start=1h max=1m", "factor=NaN start=1m"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		retry, err := ParseRetry(s, SchemeMX)
		if err != nil || retry == nil {
			return
		}
		now := time.Unix(1e9, 0)
		if next := retry(now, now.Add(time.Hour)); !next.After(now.Add(time.Hour)) {
			t.Errorf("%q: next try %s after birth", s, next.Sub(now))
		}
	})
}
