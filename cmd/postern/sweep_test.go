package main

import (
	"testing"
	"time"

	"github.com/postern-mta/postern/core/config"
)

func TestSweepIsDue(t *testing.T) {
	now := time.Date(2026, 11, 3, 12, 0, 0, 0, time.UTC)
	q := config.Quarantine{Keep: 30 * 24 * time.Hour, MaxSize: 1 << 30}
	smaller := config.Quarantine{Keep: q.Keep, MaxSize: 1 << 20}
	ago := func(d time.Duration, left int) swept {
		return swept{at: now.Add(-d), limits: q, left: left, next: now.Add(time.Hour)}
	}
	for _, c := range []struct {
		name     string
		last     swept
		limits   config.Quarantine
		messages int
		want     bool
	}{
		{"the first", swept{}, q, 1, true},
		{"nothing there", swept{}, q, 0, false},
		{"nothing changed", ago(time.Minute, 5), q, 5, false},
		{"one came, just now", ago(time.Minute, 5), q, 6, false},
		{"one came", ago(sweepPause, 5), q, 6, true},
		{"other limits", ago(time.Second, 5), smaller, 5, true},
		{"the oldest expires", swept{at: now, limits: q, left: 5, next: now}, q, 5, true},
		{"long ago", ago(sweepEvery, 5), q, 5, true},
	} {
		if got := c.last.due(now, c.limits, c.messages); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
	for keep, want := range map[time.Duration]time.Duration{time.Second: time.Second, time.Minute: 6 * time.Second, 24 * time.Hour: sweepPause} {
		if got := pause(config.Quarantine{Keep: keep}); got != want {
			t.Errorf("keep %s: pause %s", keep, got)
		}
	}
}
