package plugin_test

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
	"github.com/postern-mta/postern/hooks/plugin"
	"github.com/postern-mta/postern/hooks/plugin/testdata/dump"
)

// Every field of what a policy sees, and of what it may answer, makes the way over
// the wire: a field or kind of edit that is new in package hooks is missing here
// until the protocol has it.
func TestNothingIsLost(t *testing.T) {
	p := load(t, "probe", plugin.Options{})
	tx := dump.Full()
	d, err := ask(t, p, hooks.Disconnect, tx)
	if err != nil {
		t.Fatal(err)
	}
	got, _ := noteOf(d, "dump").(string)
	want := dump.Of(tx)
	if n := strings.Count(want, "\n"); n < 80 {
		t.Errorf("only %d values", n)
	}
	for line := range strings.Lines(want) {
		if !strings.Contains("\n"+got+"\n", "\n"+strings.TrimSuffix(line, "\n")+"\n") {
			t.Errorf("lost: %s", line)
		}
	}

	answer := hooks.Decision{
		Verb: hooks.Reject, Reply: message.NewReply(555, "5.7.1", "Everything"), Disconnect: true, After: time.Minute, Reason: "because", User: "jane",
		Each: map[int]hooks.Decision{
			1: {Verb: hooks.Defer, Reply: message.NewReply(0, "4.7.1", "One")},
			3: {Verb: hooks.Discard, Reason: "not wanted"},
		},
	}
	for kind := range hooks.EditKinds() {
		n := int(kind)
		answer.Edits = append(answer.Edits, hooks.Edit{
			Kind: kind, Name: fmt.Sprint("name", n), Value: fmt.Sprint("value", n), N: n, Number: float64(n) + 0.5,
			Any: map[string]any{"k": []any{float64(n), true, "t"}}, Rcpt: fmt.Sprintf("r%d@example.net", n),
		})
	}
	d.Edits = slices.DeleteFunc(d.Edits, func(e hooks.Edit) bool { return e.Name == "dump" })
	for i := range d.Edits {
		if !reflect.DeepEqual(d.Edits[i], answer.Edits[i]) {
			t.Errorf("edit %+v, want %+v", d.Edits[i], answer.Edits[i])
		}
	}
	if !reflect.DeepEqual(d, answer) {
		t.Errorf("%+v\nwant %+v", d, answer)
	}
	for f, value := range reflect.ValueOf(d).Fields() {
		if value.IsZero() && f.Name != "By" { // the chain's
			t.Errorf("Decision.%s is tried by nobody", f.Name)
		}
	}
	for f, value := range reflect.ValueOf(d.Edits[0]).Fields() {
		if value.IsZero() {
			t.Errorf("Edit.%s is tried by nobody", f.Name)
		}
	}
}
