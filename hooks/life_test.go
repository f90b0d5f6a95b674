package hooks

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// diary is a handler that writes down what it is asked.
type diary struct {
	mu     sync.Mutex
	lines  []string
	answer func(ctx context.Context, at Stage) error
}

func (d *diary) Name() string    { return "diary" }
func (d *diary) Stages() []Stage { return []Stage{Load, Tick, Unload} }
func (d *diary) Handle(ctx context.Context, at Stage, tx *Transaction) (Decision, error) {
	d.mu.Lock()
	d.lines = append(d.lines, at.String())
	d.mu.Unlock()
	if tx.Session == nil || tx.ID != "" {
		return Decision{}, fmt.Errorf("asked about %+v", tx)
	}
	if d.answer != nil {
		return Decision{}, d.answer(ctx, at)
	}
	return Decision{}, nil
}

func (d *diary) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, "closed")
	return nil
}

func (d *diary) read() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return strings.Join(d.lines, " ")
}

func TestLifeOfAGeneration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &diary{}
		c := NewChain([]Entry{{Handler: d, Every: time.Minute}}, Options{})
		if !c.Acquire() {
			t.Fatal("retired")
		}
		c.Start(t.Context())
		if got := d.read(); got != "load" {
			t.Errorf("after the start: %s", got)
		}
		time.Sleep(3*time.Minute + time.Second)
		synctest.Wait()
		if got := d.read(); strings.Count(got, "tick") != 3 && strings.Count(got, "tick") != 4 {
			t.Errorf("after three minutes: %s", got)
		}
		c.Retire()
		before := d.read()
		time.Sleep(10 * time.Minute)
		if got := d.read(); got != before {
			t.Errorf("after it was retired: %s", got)
		}
		c.Release()
		if got := d.read(); got != before+" unload closed" {
			t.Errorf("at the end: %s", got)
		}
	})
}

// A tick that takes longer than its interval is waited for, and cut where the
// generation ends.
func TestTicksDoNotOverlap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		running, most := 0, 0
		d := &diary{}
		d.answer = func(ctx context.Context, at Stage) error {
			if at != Tick {
				return nil
			}
			d.mu.Lock()
			running++
			most = max(most, running)
			d.mu.Unlock()
			select {
			case <-ctx.Done():
			case <-time.After(25 * time.Second):
			}
			d.mu.Lock()
			running--
			d.mu.Unlock()
			return ctx.Err()
		}
		c := NewChain([]Entry{{Handler: d, Every: 10 * time.Second}}, Options{})
		c.Start(t.Context())
		time.Sleep(2*time.Minute + 11*time.Second)
		begin := time.Now()
		c.Retire()
		if most != 1 || running != 0 || time.Since(begin) != 0 {
			t.Errorf("%d at once, %d left, ended after %s", most, running, time.Since(begin))
		}
		if n := c.Counts()[0].Failures; n != 0 {
			t.Errorf("%d failures", n)
		}
	})
}

func TestFailuresOfLoadAndTickAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &journal{}
		d := &diary{answer: func(context.Context, Stage) error { return errors.New("broken") }}
		c := NewChain([]Entry{{Handler: d, Every: time.Minute, Sample: 0.0001, Immune: []string{"relaying"}}}, Options{Observer: j})
		c.Start(t.Context())
		time.Sleep(61 * time.Second)
		c.Retire()
		if n := c.Counts()[0]; n.Failures < 3 || n.Failures != n.Calls {
			t.Errorf("%+v", n)
		}
		if !slices.ContainsFunc(j.runs, func(r StageRun) bool { return r.Stage == Load && r.Handlers[0].Err != nil }) {
			t.Errorf("%+v", j.runs)
		}
	})
}

func TestAGenerationThatNeverStartedIsNotUnloaded(t *testing.T) {
	d := &diary{}
	NewChain([]Entry{{Handler: d, Every: time.Minute}}, Options{}).Retire()
	if got := d.read(); got != "closed" {
		t.Errorf("%s", got)
	}
}
