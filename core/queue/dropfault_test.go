package queue

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// tornDisk is a disk in memory that knows what is synced. Its operation number at
// goes wrong in the given way.
type tornDisk struct {
	names, durable map[string]*tornFile // by path: as they are seen, and as they are after a power cut
	wrong          wrong
	at, done       int
	dead           bool
}

type tornFile struct {
	now, durable []byte
	changed      time.Time
}

// wrong is how an operation goes wrong.
type wrong int

const (
	never         wrong = iota
	fails               // nothing is done, and an error says so
	failsLate           // it is done, or half of it, and an error says that it is not
	failsOnwards        // nothing is done any more
	killedBefore        // the process ends there; what it wrote stays
	killedAfter         // the same, behind it
	powerBefore         // what is not synced is lost
	powerAfter          // the same, behind it
	powerHalf           // of what is not synced each second thing is lost: names, and the latter half of bytes
	powerAllNames       // names are on the disk before what the files hold
	wrongs              // their number
)

// errKilled is what a process of which the last operation was this one never sees.
var errKilled = errors.New("killed")

func newTornDisk() *tornDisk {
	return &tornDisk{names: map[string]*tornFile{}, durable: map[string]*tornFile{}}
}

// step counts an operation. do is told whether to do it by half.
func (d *tornDisk) step(do func(half bool) error) error {
	if d.dead {
		panic(errKilled)
	}
	n := d.done
	d.done++
	if d.wrong == never || n < d.at || n > d.at && d.wrong != failsOnwards {
		return do(false)
	}
	switch d.wrong {
	case fails, failsOnwards:
		return syscall.EIO
	case failsLate:
		if err := do(true); err != nil {
			return err
		}
		return syscall.ENOSPC
	case killedAfter, powerAfter, powerHalf, powerAllNames:
		_ = do(true) // it is never seen
	}
	d.dead = true
	panic(errKilled)
}

// restart makes the disk what the next process finds.
func (d *tornDisk) restart() *tornDisk {
	n := newTornDisk()
	n.names = maps.Clone(d.names)
	switch d.wrong {
	case powerBefore, powerAfter:
		n.names = maps.Clone(d.durable)
	case powerHalf:
		n.names = maps.Clone(d.durable)
		for i, name := range slices.Sorted(maps.Keys(d.names)) {
			if i%2 == 0 {
				n.names[name] = d.names[name]
			}
		}
	}
	for name, f := range n.names {
		left := f.now
		if d.wrong >= powerBefore {
			left = f.durable
		}
		if d.wrong == powerHalf {
			left = slices.Clone(f.now)
			if half := len(left) / 2; len(f.durable) < len(left) {
				copy(left[half:], make([]byte, len(left)-half))
			}
		}
		n.names[name] = &tornFile{now: left, durable: left, changed: f.changed}
	}
	n.durable = maps.Clone(n.names)
	return n
}

func (d *tornDisk) MakeDir(string) error { return d.step(func(bool) error { return nil }) }

func (d *tornDisk) SyncDir(path string) error {
	return d.step(func(half bool) error {
		if half {
			return nil
		}
		for _, all := range []map[string]*tornFile{d.durable, d.names} {
			for name := range all {
				if filepath.Dir(name) != path {
					continue
				}
				if f, ok := d.names[name]; ok {
					d.durable[name] = f
				} else {
					delete(d.durable, name)
				}
			}
		}
		return nil
	})
}

func (d *tornDisk) ReadDir(path string) (list []fs.DirEntry, err error) {
	err = d.step(func(half bool) error {
		for _, name := range slices.Sorted(maps.Keys(d.names)) {
			if filepath.Dir(name) == path {
				list = append(list, fs.FileInfoToDirEntry(tornInfo{filepath.Base(name), d.names[name]}))
			}
		}
		if half {
			list = list[:len(list)/2]
		}
		return nil
	})
	return list, err
}

func (d *tornDisk) open(path string, f *tornFile) (dropFile, error) {
	return tornHandle{d, f, filepath.Base(path)}, nil
}

func (d *tornDisk) Create(path string) (file dropFile, err error) {
	err = d.step(func(bool) error {
		if d.names[path] != nil {
			return fs.ErrExist
		}
		d.names[path] = &tornFile{changed: time.Now()}
		file, err = d.open(path, d.names[path])
		return err
	})
	return file, err
}

func (d *tornDisk) Open(path string) (file dropFile, err error) {
	err = d.step(func(bool) error {
		if d.names[path] == nil {
			return fs.ErrNotExist
		}
		file, err = d.open(path, d.names[path])
		return err
	})
	return file, err
}

func (d *tornDisk) Rename(from, to string) error {
	return d.step(func(bool) error {
		f := d.names[from]
		if f == nil {
			return fs.ErrNotExist
		}
		delete(d.names, from)
		d.names[to] = f
		return nil
	})
}

func (d *tornDisk) Remove(path string) error {
	return d.step(func(bool) error {
		if d.names[path] == nil {
			return fs.ErrNotExist
		}
		delete(d.names, path)
		return nil
	})
}

type tornHandle struct {
	d    *tornDisk
	f    *tornFile
	name string
}

func (h tornHandle) WriteAt(p []byte, off int64) (n int, err error) {
	err = h.d.step(func(half bool) error {
		n = len(p)
		if half {
			n /= 2
		}
		if end := int(off) + n; end > len(h.f.now) {
			h.f.now = append(slices.Clone(h.f.now), make([]byte, end-len(h.f.now))...)
		} else {
			h.f.now = slices.Clone(h.f.now)
		}
		copy(h.f.now[off:], p[:n])
		return nil
	})
	return n, err
}

func (h tornHandle) ReadAt(p []byte, off int64) (n int, err error) {
	err = h.d.step(func(half bool) error {
		if half {
			p = p[:len(p)/2]
		}
		n, err = bytes.NewReader(h.f.now).ReadAt(p, off)
		return err
	})
	return n, err
}

func (h tornHandle) Sync() error {
	return h.d.step(func(half bool) error {
		if !half {
			h.f.durable = h.f.now
		}
		return nil
	})
}

func (h tornHandle) Close() error { return h.d.step(func(bool) error { return nil }) }

func (h tornHandle) Stat() (fs.FileInfo, error) {
	return tornInfo{h.name, h.f}, h.d.step(func(bool) error { return nil })
}

type tornInfo struct {
	name string
	f    *tornFile
}

func (i tornInfo) Name() string       { return i.name }
func (i tornInfo) Size() int64        { return int64(len(i.f.now)) }
func (i tornInfo) Mode() fs.FileMode  { return 0o600 }
func (i tornInfo) ModTime() time.Time { return i.f.changed }
func (i tornInfo) IsDir() bool        { return false }
func (i tornInfo) Sys() any           { return nil }

// living runs what may be killed. It reports false where it was.
func living(do func()) (lived bool) {
	defer func() {
		if what := recover(); what != nil && what != any(errKilled) {
			panic(what)
		}
	}()
	do()
	return true
}

// committed is the queue's part of it: a message is committed once under its id.
type committed map[string]string

func (k committed) take(m Drop, body io.Reader) error {
	b, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	k[m.ID] = fmt.Sprint(m.Sender, m.Recipients, m.EightBit, len(b), checksum(b))
	return nil
}

func want(n int, body string) string {
	m := dropOf(n)
	return fmt.Sprint(m.Sender, m.Recipients, m.EightBit, len(body), checksum([]byte(body)))
}

// everyFault calls run with a disk on which operation 0, 1, 2... goes wrong in each
// way, until there is none of that number.
func everyFault(t *testing.T, fresh func() *tornDisk, run func(t *testing.T, d *tornDisk)) {
	for way := fails; way < wrongs; way++ {
		n := 0
		for ; ; n++ {
			d := fresh()
			d.wrong, d.at, d.done = way, n, 0
			t.Run(fmt.Sprintf("way %d/operation %d", way, n), func(t *testing.T) { run(t, d) })
			if d.done <= n {
				break
			}
		}
		if n < 5 {
			t.Errorf("way %d: %d operations only", way, n)
		}
	}
}

// TestDropsSurviveEveryFault: a message for which its writer was told that it is
// safe is taken in, whole and once; any other not at all, or whole and once.
func TestDropsSurviveEveryFault(t *testing.T) {
	body := "Subject: x\r\n\r\n" + strings.Repeat("a line\r\n", 10<<10)
	everyFault(t, newTornDisk, func(t *testing.T, d *tornDisk) {
		var id string
		var err error
		lived := living(func() { id, err = writeDrop(d, "var/drop", dropOf(1), strings.NewReader(body)) })
		safe := lived && err == nil
		d = d.restart()
		var log bytes.Buffer
		queue := committed{}
		for range 2 {
			if err := takeDrops(d, "var/drop", slog.New(slog.NewTextHandler(&log, nil)), queue.take); err != nil {
				t.Error(err)
			}
		}
		if safe && (len(queue) != 1 || queue[id] == "" || log.Len() > 0) {
			t.Errorf("it was safe, and %d were taken\n%s", len(queue), log.String())
		}
		for _, got := range queue {
			if len(queue) > 1 || got != want(1, body) {
				t.Errorf("taken %d: %s", len(queue), got)
			}
		}
	})
}

// TestTakingDropsSurvivesEveryFault: whatever goes wrong while drops are taken in,
// each is committed in the end, whole, under its own id, and nothing else is.
func TestTakingDropsSurvivesEveryFault(t *testing.T) {
	bodies := []string{"", "one\r\n", strings.Repeat("x", 40<<10)}
	ids := map[string]string{}
	fresh := func() *tornDisk {
		d := newTornDisk()
		clear(ids)
		for n, b := range append(bodies, "damaged") {
			id, err := writeDrop(d, "drop", dropOf(n), strings.NewReader(b))
			if err != nil {
				t.Fatal(err)
			}
			if b == "damaged" {
				f := d.names[filepath.Join("drop", id+dropSuffix)]
				f.now = bytes.Replace(f.now, []byte(b), []byte("Damaged"), 1)
				f.durable = f.now
				continue
			}
			ids[id] = want(n, b)
		}
		d.names["drop/old.tmp"] = &tornFile{changed: time.Now().Add(-leftAfter)}
		d.names["drop/young.tmp"] = &tornFile{changed: time.Now()}
		d.durable = maps.Clone(d.names)
		return d
	}
	everyFault(t, fresh, func(t *testing.T, d *tornDisk) {
		queue := committed{}
		log := slog.New(slog.DiscardHandler)
		living(func() { _ = takeDrops(d, "drop", log, queue.take) })
		for range 2 {
			d = d.restart()
			d.wrong = never
			if err := takeDrops(d, "drop", log, queue.take); err != nil {
				t.Error(err)
			}
		}
		if !maps.Equal(queue, ids) {
			t.Errorf("%v, want %v", queue, ids)
		}
		for name := range d.names {
			if name != "drop/young.tmp" && filepath.Dir(name) == "drop" {
				t.Errorf("left: %s", name)
			}
		}
	})
}
