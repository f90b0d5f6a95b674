package record

import (
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// heard is a log that a test waits for.
type heard struct {
	mu   sync.Mutex
	text strings.Builder
	new  chan struct{}
}

func (l *heard) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case l.new <- struct{}{}:
	default:
	}
	return l.text.Write(p)
}

func (l *heard) wait(what string) {
	for {
		l.mu.Lock()
		found := strings.Contains(l.text.String(), what)
		l.mu.Unlock()
		if found {
			return
		}
		<-l.new
	}
}

// A disk that fails and comes back: stories told meanwhile are lost, and counted; what
// was written before, and what comes after, is found, without a restart.
func TestStoreOpensAgain(t *testing.T) {
	var failing atomic.Bool
	files := errorfs.Wrap(vfs.Default, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if failing.Load() && op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			return syscall.EIO
		}
		return nil
	}))
	log := &heard{new: make(chan struct{}, 1)}
	r, err := Open(t.TempDir(), Options{Log: slog.New(slog.NewTextHandler(log, nil)), files: files})
	if err != nil {
		t.Fatal(err)
	}
	s := newSession("0SESSION0000001")
	found := func(id string, want int) {
		t.Helper()
		if list, err := r.Why(t.Context(), Query{Subjects: []string{id}}); err != nil || len(list) != want {
			t.Errorf("%s: %d stories, %v", id, len(list), err)
		}
	}
	tell(r, s, transaction(s, "0MSG00000000001", "b@b.example"))
	found("0MSG00000000001", 1)
	failing.Store(true)
	tell(r, s, transaction(s, "0MSG00000000002", "b@b.example"))
	r.Flush()
	log.wait("nothing is recorded until it is open again")
	if now, ok := r.Trouble(); !ok || r.Failures() != 1 || !strings.Contains(now.String(), "input/output error") {
		t.Errorf("%v %v", now, ok)
	}
	log.wait("can't be opened again yet")
	found("0MSG00000000001", 1) // it can be read all the while
	failing.Store(false)
	log.wait("the store is open again")
	if now, ok := r.Trouble(); ok {
		t.Errorf("%v", now)
	}
	tell(r, s, transaction(s, "0MSG00000000003", "b@b.example"))
	found("0MSG00000000001", 1)
	found("0MSG00000000003", 1)
	if text := scrape(r); !strings.Contains(text, "postern_recorder_dropped_total") || strings.Contains(text, "postern_recorder_dropped_total 0\n") {
		t.Errorf("nothing was counted as lost:\n%.300s", text)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}
