package pebble

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/postern-mta/postern/core/queue"
)

// What only the journal says is seen by those who look and write nothing.
func TestReadOnlySeesTheJournal(t *testing.T) {
	mem := vfs.NewCrashableMem()
	e := openOn(t, mem, queue.EngineOptions{})
	for _, k := range []string{"a", "b", "c", "e", "g"} {
		mustCommit(t, e, put(k, "old "+k))
	}
	if err := e.Flush(); err != nil {
		t.Fatal(err)
	}
	mustCommit(t, e, put("b", "new b"), queue.Write{Key: []byte("c"), Delete: true}, put("d", "new d"))
	mustCommit(t, e, put("f", ""), put("h", "new h"), queue.Write{Key: []byte("x"), Delete: true})
	mustCommit(t, e, queue.Write{Key: []byte("h"), Delete: true}, queue.Write{Key: []byte("a"), Delete: true})
	left := mem.CrashClone(vfs.CrashCloneCfg{})
	r := openOn(t, left, queue.EngineOptions{ReadOnly: true, Existing: true})
	for _, span := range [][2]string{{"a", "z"}, {"b", "c"}, {"c", "f"}, {"d", "e"}, {"g", "z"}, {"h", "z"}, {"0", "b"}} {
		if got, want := dump(t, r, span[0], span[1]), dump(t, e, span[0], span[1]); got != want {
			t.Errorf("%v: %q and not %q", span, got, want)
		}
	}
	for k, want := range map[string]string{"b": "new b", "d": "new d", "e": "old e", "f": "", "a": "-", "c": "-", "h": "-", "x": "-", "y": "-"} {
		v, done, err := r.Get([]byte(k))
		got := string(v)
		if err != nil {
			got = "-"
		} else {
			done()
		}
		if got != want {
			t.Errorf("%s: %q and not %q", k, got, want)
		}
	}
	if again := dump(t, openOn(t, left, queue.EngineOptions{}), "a", "z"); again != dump(t, e, "a", "z") {
		t.Errorf("reading changed it: %q", again)
	}
}

func mustCommit(t *testing.T, e queue.Engine, writes ...queue.Write) {
	t.Helper()
	if err := e.Commit(writes); err != nil {
		t.Fatal(err)
	}
}
