package record

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
)

// onDisk is how much the folder takes, in bytes.
func onDisk(t *testing.T, dir string) (sum int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil {
			return ignoreGone(err)
		}
		info, err := e.Info()
		if err == nil && info.Mode().IsRegular() {
			sum += info.Size()
		}
		return ignoreGone(err)
	})
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// noiseOf is hard to compress.
func noiseOf(random *rand.ChaCha8, n int) []byte {
	b := make([]byte, n)
	_, _ = random.Read(b) // never fails
	return b
}

// However fast mail comes in, with bodies or without, max_size is what the disk
// meets with: nobody waits for the next sweep.
func TestMaxSizeBoundsTheDisk(t *testing.T) {
	for _, maxSize := range []int64{4 << 20, 32 << 20} {
		t.Run(fmt.Sprint(maxSize>>20, " MiB"), func(t *testing.T) {
			r := open1(t, Options{MaxSize: maxSize, Bodies: true})
			s := newSession("0SESSION0000001")
			r.Connected(s)
			random := rand.NewChaCha8([32]byte{1})
			peak, total, n := int64(0), int64(0), 0
			for ; total < 4*maxSize; n++ {
				tx := transaction(s, fmt.Sprintf("0MESSAGE%07d", n), "b@b.example")
				tx.Came, tx.CameBody = noiseOf(random, 48<<10), true
				total += 48 << 10
				r.Stage(tx, at(hooks.Mail, 1, hooks.HandlerRun{Policy: "p"}))
				r.Verdict(tx, Queued, message.NewReply(250, "2.0.0", "Ok"), "")
				if n%20 == 0 {
					r.Flush()
					peak = max(peak, onDisk(t, r.dir))
				}
			}
			t.Logf("%d messages of %d bytes in all; at most %d on disk", n, total, peak)
			// A table that was replaced is removed a moment later, beside the writing.
			if peak > maxSize+maxSize/16 {
				t.Errorf("%d bytes on disk of %d", peak, maxSize)
			}
			list, err := r.Why(t.Context(), Query{Limit: MostLimit})
			if err != nil || len(list) == 0 || list[0].ID != fmt.Sprintf("0MESSAGE%07d", n-1) {
				t.Fatalf("%d stories, %v", len(list), err)
			}
			if kept := int64(len(list)) * 48 << 10; kept < maxSize/2 {
				t.Errorf("only %d bytes are kept of %d", kept, maxSize)
			}
		})
	}
}

// A question that takes long keeps what it reads on the disk. Stories are lost
// before that outgrows the bound by more than a quarter, and no more than it holds
// up are removed.
func TestMaxSizeDuringAQuestion(t *testing.T) {
	const maxSize = 8 << 20
	r := open1(t, Options{MaxSize: maxSize, Bodies: true})
	random := rand.NewChaCha8([32]byte{2})
	s := newSession("0SESSION0000001")
	n := 0
	tell := func(bytes int) (peak int64) {
		for told := 0; told < bytes; n++ {
			tx := transaction(s, fmt.Sprintf("0MESSAGE%07d", n), "b@b.example")
			tx.Came, tx.CameBody = noiseOf(random, 48<<10), true
			told += 48 << 10
			r.Verdict(tx, Queued, message.NewReply(250, "2.0.0", "Ok"), "")
			if n%20 == 0 {
				r.Flush()
				peak = max(peak, onDisk(t, r.dir))
			}
		}
		return peak
	}
	tell(maxSize)
	it, err := pages(r.db.DB, pagePrefix)
	if err != nil {
		t.Fatal(err)
	}
	if !it.First() {
		t.Fatal("nothing was written")
	}
	if peak := tell(4 * maxSize); peak > maxSize/4*5 {
		t.Errorf("%d bytes on disk of %d", peak, maxSize)
	}
	if err := it.Close(); err != nil {
		t.Fatal(err)
	}
	tell(maxSize)
	if list, err := r.Why(t.Context(), Query{Limit: 1}); err != nil || len(list) != 1 || list[0].ID != fmt.Sprintf("0MESSAGE%07d", n-1) {
		t.Errorf("%d stories, %v", len(list), err)
	}
}

// A recorder that is off counts and logs, keeps nothing and says so.
func TestOff(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "record")
	r, err := Open(dir, Options{Off: true, Bodies: true})
	if err != nil {
		t.Fatal(err)
	}
	s := newSession("0SESSION0000001")
	tell(r, s, transaction(s, "0MESSAGE0000001", "b@b.example"))
	if _, err := r.Why(t.Context(), Query{}); !errors.Is(err, errOff) {
		t.Errorf("%v", err)
	}
	if _, err := r.Shadow(t.Context(), ShadowQuery{}); !errors.Is(err, errOff) {
		t.Errorf("%v", err)
	}
	if r.Sample(message.Bytes("x")) != nil {
		t.Error("a body is copied for nobody")
	}
	if text := scrape(r); !strings.Contains(text, `postern_messages_total{verdict="queued"} 1`) {
		t.Errorf("not counted:\n%s", text)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}
