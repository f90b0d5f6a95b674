package hooks

import (
	"reflect"
	"testing"
)

// TestRetract: what one run of a stage left goes, what stood before and what came
// since then stays.
func TestRetract(t *testing.T) {
	score := func(name string) Score { return Score{Name: name, Points: 1} }
	kept := func(by string) Kept { return Kept{At: Rcpt, Decision: Decision{Verb: Reject, By: by}} }
	fields := func(v string) map[string]any { return map[string]any{"v": v} }
	before := Marks{[]Score{score("a")}, []string{"a"}, map[string]map[string]any{"a": fields("1"), "x": fields("1")}, map[string]bool{"a": true}, []Kept{kept("a")}, nil}
	after := Marks{[]Score{score("a"), score("b")}, []string{"a", "b"}, map[string]map[string]any{"a": fields("1"), "x": fields("2"), "b": fields("1")}, map[string]bool{"a": true, "b": true}, []Kept{kept("a"), kept("b")}, nil}
	now := Marks{[]Score{score("a"), score("b"), score("c")}, []string{"a", "b", "c"}, map[string]map[string]any{"a": fields("1"), "x": fields("2"), "b": fields("1"), "c": fields("1")}, map[string]bool{"a": true, "b": true, "c": true}, []Kept{kept("b"), kept("c")}, nil}
	want := Marks{[]Score{score("a"), score("c")}, []string{"a", "c"}, map[string]map[string]any{"a": fields("1"), "x": fields("1"), "c": fields("1")}, map[string]bool{"a": true, "c": true}, []Kept{kept("c")}, nil}
	untouched := now.clone()
	got := now
	got.Retract(&before, &after)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	if !reflect.DeepEqual(now, untouched) {
		t.Errorf("a copy changed: %+v", now)
	}
	var none Marks
	none.Retract(&Marks{}, &Marks{})
	if !reflect.DeepEqual(none, Marks{}) {
		t.Errorf("nothing became %+v", none)
	}
}
