package hooks

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestFindingsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f Findings
		var asked atomic.Int32
		find := func(context.Context) (any, bool) {
			time.Sleep(time.Second) // of the bubble's clock
			return asked.Add(1), true
		}
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				if got := f.Once(t.Context(), "spf", find); got != int32(1) {
					t.Errorf("got %v", got)
				}
			})
		}
		all.Wait()
		if got := f.Once(t.Context(), "other", find); got != int32(2) {
			t.Errorf("another key: %v", got)
		}
	})
}

// What was not worth remembering is found anew, by those who waited too; a panic
// and a context that ends leave nobody waiting.
func TestFindingsNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f Findings
		n := 0
		for want := 1; want < 4; want++ {
			if got := f.Once(t.Context(), "k", func(context.Context) (any, bool) { n++; return n, n > 2 }); got != min(want, 3) {
				t.Errorf("call %d: %v", want, got)
			}
		}
		if got := f.Once(t.Context(), "k", func(context.Context) (any, bool) { return 9, true }); got != 3 {
			t.Errorf("kept: %v", got)
		}
		func() {
			defer func() { _ = recover() }()
			f.Once(t.Context(), "p", func(context.Context) (any, bool) { panic("x") })
		}()
		if got := f.Once(t.Context(), "p", func(context.Context) (any, bool) { return 1, true }); got != 1 {
			t.Errorf("after a panic: %v", got)
		}
		hold := make(chan struct{})
		go f.Once(t.Context(), "slow", func(context.Context) (any, bool) { <-hold; return "late", true })
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if got := f.Once(ctx, "slow", func(context.Context) (any, bool) { return "gave up", false }); got != "gave up" {
			t.Errorf("ended: %v", got)
		}
		close(hold)
	})
}

func TestFindingsBound(t *testing.T) {
	var f Findings
	for i := range 10 * maxFindings {
		key := fmt.Sprint(i)
		if got := f.Once(t.Context(), key, func(context.Context) (any, bool) { return key, true }); got != key {
			t.Fatalf("%s: %v", key, got)
		}
	}
	if len(f.found) != maxFindings {
		t.Errorf("%d are remembered", len(f.found))
	}
	var none *Findings
	if got := none.Once(t.Context(), "k", func(context.Context) (any, bool) { return 1, true }); got != 1 {
		t.Errorf("none: %v", got)
	}
}
