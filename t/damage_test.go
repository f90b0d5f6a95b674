package t

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// damaged is what became of copies of the data directory in which bits were
// flipped.
type damaged struct {
	Copies, Refused int // Refused: the daemon said why it does not start
	Arrived         int // messages from copies, all of them whole
	Aside           int // messages set aside
}

// damage kills the daemon, flips bits in a copy of what is on its disk, and has
// another daemon serve that. It may refuse to start and say why. Else what it
// delivers is whole, what is damaged is set aside, and it goes on.
func (r *rack) damage() {
	r.must(r.g.kill9())
	if r.up {
		r.twice += 20
	}
	there := filepath.Join(r.dir, "copy")
	r.must(os.RemoveAll(there))
	r.must(os.MkdirAll(there, 0o755))
	r.must(os.CopyFS(filepath.Join(there, "var", "queue"), os.DirFS(filepath.Join(r.dir, "var", "queue"))))
	r.must(r.g.start())
	r.must(r.flip(filepath.Join(there, "var", "queue")))

	ports, err := freePorts(r.host, 2)
	r.must(err)
	config := fmt.Sprintf(tortureConfig, ports[0], ports[1])
	r.must(os.WriteFile(filepath.Join(there, "postern.toml"), []byte(config), 0o644))
	s := newSink(ports[1])
	defer s.down()
	r.must(s.up(nil))
	g := &gateway{bin: r.g.bin, dir: there, smtp: ports[0], env: append(os.Environ(), "POSTERN_CONFIG="+filepath.Join(there, "postern.toml"))}
	defer g.end()
	r.copies.Copies++
	if err := g.start(); err != nil {
		if log := g.log(); g.running() || !strings.Contains(log, "not started") || strings.Contains(log, "panic") {
			r.must(fmt.Errorf("with a damaged queue: %w\n%s", err, tail(log, 8<<10)))
		}
		r.copies.Refused++
		return
	}
	// Until nothing more arrives.
	n := -1
	poll(10*time.Second, func() bool {
		before := n
		<-time.After(300 * time.Millisecond)
		n = len(s.arrivals())
		return n == before
	})
	if !g.running() || strings.Contains(g.log(), "panic:") {
		r.must(fmt.Errorf("the daemon with a damaged queue ended\n%s", tail(g.log(), 8<<10)))
	}
	a := r.l.audit(s.arrivals())
	if len(a.damaged) > 0 {
		r.must(fmt.Errorf("delivered though damaged: %q", few(a.damaged)))
	}
	r.copies.Arrived += a.arrived
	r.copies.Aside += strings.Count(g.log(), "damaged message was set aside")
}

// descriptorLimit sets how many descriptors a process may have, and returns how many
// it might.
func descriptorLimit(pid int, n uint64) (old uint64, err error) {
	var was, now unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &was); err != nil {
		return 0, err
	}
	now = unix.Rlimit{Cur: min(n, was.Max), Max: was.Max}
	return was.Cur, unix.Prlimit(pid, unix.RLIMIT_NOFILE, &now, nil)
}

// flip changes up to five bits in files below dir, but not in those of a few bytes.
func (r *rack) flip(dir string) error {
	var files []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if fi, err := d.Info(); err == nil && fi.Size() > 100 {
			files = append(files, path)
		}
		return nil
	})
	for range 1 + r.random.IntN(5) {
		if err != nil || len(files) == 0 {
			break
		}
		err = flipBit(files[r.random.IntN(len(files))], r.random.Int64())
	}
	return err
}

func flipBit(path string, at int64) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	var b [1]byte
	if _, err := f.ReadAt(b[:], at%fi.Size()); err != nil {
		return err
	}
	b[0] ^= 1 << (at % 8)
	_, err = f.WriteAt(b[:], at%fi.Size())
	return err
}
