package plugin_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
	"github.com/postern-mta/postern/hooks/plugin"
)

// pattern is a message of that many bytes which nobody holds in memory; it counts
// what was read of it.
type pattern struct {
	size int64
	read atomic.Int64
	bad  int64 // where reading fails; 0: nowhere
}

func (p *pattern) Size() int64 { return p.size }

func (p *pattern) ReadAt(b []byte, from int64) (int, error) {
	if p.bad > 0 && from+int64(len(b)) > p.bad {
		return 0, errors.New("the disk is gone")
	}
	n := 0
	for ; n < len(b) && from+int64(n) < p.size; n++ {
		b[n] = byte(from + int64(n))
	}
	p.read.Add(int64(n))
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func TestStream(t *testing.T) {
	dir := t.TempDir()
	p := load(t, "probe-stream", plugin.Options{TempDir: dir})
	if got := p.Description().Access; got != "stream" {
		t.Errorf("access %q", got)
	}
	for _, size := range []int64{0, 1, 64<<10 - 1, 64 << 10, 64<<10 + 1, 5<<20 + 7} {
		tx, body := mail("x"), &pattern{size: size}
		tx.Body = body
		sum := sha256.New()
		if _, err := io.Copy(sum, message.NewReader(body)); err != nil {
			t.Fatal(err)
		}
		d, err := ask(t, p, hooks.Message, tx)
		if err != nil || d.Verb != hooks.Quarantine || noteOf(d, "read") != float64(size) || noteOf(d, "sum") != hex.EncodeToString(sum.Sum(nil)) {
			t.Errorf("%d bytes: %+v, %v", size, d, err)
		}
	}
	if _, err := ask(t, p, hooks.Mail, mail("x")); err != nil { // a stage without a message
		t.Error(err)
	}
	checkSpool(t, dir)
}

// A plugin that has read enough answers, and the rest is not read.
func TestStreamDecidedEarly(t *testing.T) {
	p := load(t, "probe-stream", plugin.Options{})
	body := &pattern{size: 1 << 30}
	tx := mail("early")
	tx.Body = body
	d, err := ask(t, p, hooks.Message, tx)
	if err != nil || d.Verb != hooks.Reject || d.Reply.Text != "Enough" {
		t.Errorf("%+v, %v", d, err)
	}
	if n := body.read.Load(); n > 32<<20 {
		t.Errorf("%d bytes were read for a plugin that wanted 1000", n)
	}
}

// One that does not read is not sent more than its window, and is cut off in time.
func TestStreamNotRead(t *testing.T) {
	p := load(t, "probe-stream", plugin.Options{})
	body := &pattern{size: 1 << 30}
	tx := mail("wait")
	tx.Body = body
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := p.Handle(ctx, hooks.Message, tx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	if n := body.read.Load(); n > 8<<20 {
		t.Errorf("%d bytes were read for a plugin that reads none", n)
	}
}

// The process ends, or the message can't be read, in the middle of a stream: a
// failure, never half a message taken for a whole one.
func TestStreamBroken(t *testing.T) {
	p := load(t, "probe-stream", plugin.Options{})
	tx := mail("exit")
	tx.Body = &pattern{size: 50 << 20}
	if _, err := ask(t, p, hooks.Message, tx); !errors.Is(err, plugin.ErrEnded) {
		t.Errorf("its end: %v", err)
	}
	for range 6 {
		tx = mail("x")
		tx.Body = &pattern{size: 50 << 20, bad: 1 << 20}
		if d, err := ask(t, p, hooks.Message, tx); err == nil || errors.Is(err, plugin.ErrAnswer) || err.Error() != "plugin: reading the message: the disk is gone" {
			t.Errorf("a message that can't be read: %+v, %v", d, err)
		}
	}
	tx.Body = &pattern{size: 5}
	if _, err := ask(t, p, hooks.Message, tx); err != nil || p.Status().Restarts != 1 {
		t.Errorf("afterwards: %v, %d starts", err, p.Status().Restarts)
	}
}

// 50 MB flow through with a few hundred KB in memory on both sides.
func TestStreamMemory(t *testing.T) {
	p := load(t, "probe-stream", plugin.Options{})
	const large = 50 << 20
	heap := func(size int64) (plugins float64, ours uint64) {
		tx := mail("x")
		tx.Body = &pattern{size: size}
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		d, err := ask(t, p, hooks.Message, tx)
		if err != nil || noteOf(d, "read") != float64(size) {
			t.Fatalf("%+v, %v", d, err)
		}
		runtime.ReadMemStats(&after)
		return noteOf(d, "heap").(float64), after.HeapSys - min(before.HeapSys, after.HeapSys)
	}
	small, _ := heap(100 << 10)
	plugins, ours := heap(large)
	t.Logf("heap of the plugin %.0f KiB after 100 KiB, %.0f KiB after 50 MiB; ours grew by %d KiB", small/1024, plugins/1024, ours/1024)
	if plugins > small+16<<20 || ours > 16<<20 {
		t.Errorf("memory grows with the message")
	}
}
