package hooks

import (
	"context"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

// A handler's context ends as one of context.WithTimeout does, whenever it is first
// waited for.
func TestPatience(t *testing.T) {
	type key struct{}
	synctest.Test(t, func(t *testing.T) {
		outer, stop := context.WithCancel(context.WithValue(context.Background(), key{}, "kept"))
		defer stop()
		fresh := func() *patience { return &patience{outer: outer, until: time.Now().Add(time.Minute)} }

		p := fresh()
		if at, ok := p.Deadline(); !ok || !at.Equal(p.until) || p.Err() != nil || p.Value(key{}) != "kept" {
			t.Errorf("fresh: %v, %v, %v", at, p.Err(), p.Value(key{}))
		}
		began := time.Now()
		<-p.Done()
		if took := time.Since(began); took != time.Minute || p.Err() != context.DeadlineExceeded || p.Value(key{}) != "kept" {
			t.Errorf("it ended after %v with %v", took, p.Err())
		}
		p.end()
		if p.Err() != context.DeadlineExceeded {
			t.Errorf("ended after its time: %v", p.Err())
		}

		p = fresh() // nobody waits
		time.Sleep(time.Minute)
		if p.Err() != context.DeadlineExceeded {
			t.Errorf("at its time: %v", p.Err())
		}
		select {
		case <-p.Done():
		default:
			t.Error("it is not done at its time")
		}

		p = fresh()
		p.end()
		if p.Err() != context.Canceled {
			t.Errorf("ended: %v", p.Err())
		}
		<-p.Done()

		p = fresh() // what is made of it ends with it
		before := runtime.NumGoroutine()
		inner, cancel := context.WithTimeout(p, time.Hour)
		defer cancel()
		if n := runtime.NumGoroutine(); n != before {
			t.Errorf("%d goroutines more wait for its end", n-before)
		}
		p.end()
		<-inner.Done()
		if inner.Err() != context.Canceled {
			t.Errorf("inner: %v", inner.Err())
		}

		p = fresh()
		stop()
		if p.Err() != context.Canceled {
			t.Errorf("the outer one ended: %v", p.Err())
		}
		<-p.Done()
	})
}
