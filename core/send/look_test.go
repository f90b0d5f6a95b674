package send

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// A look finds what waits and runs for each destination, and which is down.
func TestLook(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.c.PerDestination = 2
		r.answer = func(ctx context.Context, j *Job, rcpt string) Outcome {
			if j.Domain == "down.example" {
				return unreached(ctx, j, rcpt)
			}
			time.Sleep(time.Minute)
			return ok(ctx, j, rcpt)
		}
	}, func(r *rig) {
		for i := range 5 {
			r.accept(fmt.Sprintf("a%d@slow.example", i))
			r.accept("b@down.example")
			synctest.Wait()
		}
		r.accept("c@here.example")
		synctest.Wait()
		list, all, c := r.s.Look(10)
		byName := map[string]View{}
		for _, v := range list {
			byName[v.Name] = v
		}
		slow, down, here := byName["slow.example"], byName["down.example"], byName["local"]
		switch {
		case all != 3 || len(list) != 3 || list[0].Name != "slow.example":
			t.Errorf("%d of %d: %+v", len(list), all, list)
		case slow.InFlight != 2 || slow.Ready != 3 || slow.Window != 2 || slow.Limit != 2 || !slow.Rest.IsZero() || slow.Local:
			t.Errorf("slow: %+v", slow)
		case down.InFlight != 0 || down.Failures < deadAfter || !down.Rest.After(time.Now()) || down.Last.Code != 451:
			t.Errorf("down: %+v", down)
		case here.InFlight != 1 || !here.Local:
			t.Errorf("local: %+v", here)
		case c != Channels{Local: 1, LocalLimit: 10, Remote: 2, RemoteLimit: 200}:
			t.Errorf("channels: %+v", c)
		}
		if list, all, _ := r.s.Look(1); len(list) != 1 || all != 3 {
			t.Errorf("one of %d: %+v", all, list)
		}
		time.Sleep(time.Hour)
	})
}

// Destinations of one name are one.
func TestLookJoins(t *testing.T) {
	a := View{Name: "x", Ready: 1, InFlight: 2, Window: 3, Limit: 4}
	b := View{Name: "x", Ready: 10, Outside: 5, InFlight: 20, Window: 30, Limit: 40, Failures: 3, Rest: time.Unix(9, 0), Paced: true}
	a.join(&b)
	if want := (View{Name: "x", Ready: 11, Outside: 5, InFlight: 22, Window: 33, Limit: 44, Failures: 3, Rest: time.Unix(9, 0), Paced: true}); a != want {
		t.Errorf("%+v", a)
	}
}
