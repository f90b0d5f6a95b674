package main

import (
	"testing"
	"time"
)

func TestMoment(t *testing.T) {
	zone := time.FixedZone("CET", 3600)
	now := time.Date(2026, 11, 27, 13, 30, 0, 0, zone) // a Friday
	for text, want := range map[string]string{
		"now": "2026-11-27T13:30:00+01:00", "2h": "2026-11-27T11:30:00+01:00", "1d12h": "2026-11-26T01:30:00+01:00", "30m ago": "2026-11-27T13:00:00+01:00",
		"13:00": "2026-11-27T13:00:00+01:00", "14:00": "2026-11-26T14:00:00+01:00", "14:00:05": "2026-11-26T14:00:05+01:00",
		"today": "2026-11-27T00:00:00+01:00", "Yesterday 14:00": "2026-11-26T14:00:00+01:00", "yesterday": "2026-11-26T00:00:00+01:00", "today 14:00": "2026-11-27T14:00:00+01:00",
		"friday": "2026-11-27T00:00:00+01:00", "sat": "2026-11-21T00:00:00+01:00", "thu 9:05": "2026-11-26T09:05:00+01:00",
		"2026-10-01": "2026-10-01T00:00:00+01:00", "2026-10-01 8:00": "2026-10-01T08:00:00+01:00", "2026-10-01T08:00": "2026-10-01T08:00:00+01:00", "2026-10-01T08:00:07": "2026-10-01T08:00:07+01:00",
		"2026-10-01T08:00:00Z": "2026-10-01T08:00:00Z", "2027-01-01": "2027-01-01T00:00:00+01:00",
	} {
		got, err := moment(text, now)
		if err != nil || got.Format(time.RFC3339) != want {
			t.Errorf("%q: %s, %v, want %s", text, got.Format(time.RFC3339), err, want)
		}
	}
	for _, text := range []string{"", "soon", "25:00", "yesterday soon", "2026-13-01", "2h 3", "tomorrow", "14:00 yesterday"} {
		if got, err := moment(text, now); err == nil {
			t.Errorf("%q: %s", text, got)
		}
	}
}

// A day that a clock change makes shorter begins at midnight all the same.
func TestMomentAcrossClockChange(t *testing.T) {
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Skip(err)
	}
	now := time.Date(2026, 10, 26, 1, 0, 0, 0, zone) // the day before has 25 hours
	if got, err := moment("yesterday", now); err != nil || got.Format(time.RFC3339) != "2026-10-25T00:00:00+02:00" {
		t.Errorf("%s, %v", got.Format(time.RFC3339), err)
	}
}
