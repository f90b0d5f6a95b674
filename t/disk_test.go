package t

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// badDisk is a small file system below dir that can be filled up, and that can be
// made to fail under what it seems to have taken.
type badDisk struct {
	t    *testing.T
	back string // what it is made of: memory of a fixed size, that can be taken away
	dir  string // where it is mounted
}

const (
	backSize = 224 << 20
	diskSize = 400 << 20 // more than there is behind it
)

// newBadDisk mounts one at dir, which takes root, loop devices and e2fsprogs.
// Behind it is a file with holes: writing into a hole fails when there is no memory
// left, and the kernel finds out when it syncs, as with a disk that dies.
func newBadDisk(t *testing.T, dir string) (*badDisk, error) {
	d := &badDisk{t: t, back: filepath.Join(t.TempDir(), "back"), dir: dir}
	image := filepath.Join(d.back, "image")
	if err := errors.Join(os.MkdirAll(d.back, 0o755), os.MkdirAll(dir, 0o755)); err != nil {
		return nil, err
	}
	if err := syscall.Mount("none", d.back, "tmpfs", 0, fmt.Sprint("size=", backSize)); err != nil {
		return nil, err
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(d.back, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	for _, line := range []string{
		fmt.Sprintf("truncate -s %d %s", diskSize, image),
		"mke2fs -q -t ext4 -b 4096 -O ^has_journal -E nodiscard " + image,
	} {
		if _, err := command(line); err != nil {
			return nil, err
		}
	}
	if err := keepTables(image); err != nil {
		return nil, err
	}
	device, err := command("losetup -f --show " + image)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() {
		if _, err := command("losetup -d " + device); err != nil {
			t.Error(err)
		}
	})
	// The kernel takes a write that the file below took in part for a whole one: so no
	// write is longer than a page, which is taken or not.
	if err := os.WriteFile(filepath.Join("/sys/block", filepath.Base(device), "queue/max_sectors_kb"), []byte("4"), 0); err != nil {
		return nil, err
	}
	if _, err := command("mount -o errors=continue,noinit_itable " + device + " " + dir); err != nil {
		return nil, err
	}
	t.Cleanup(func() {
		d.mend()
		if out, err := exec.Command("umount", "-l", dir).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	return d, nil
}

func command(line string) (said string, err error) {
	words := strings.Fields(line)
	out, err := exec.Command(words[0], words[1:]...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", line, err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

var fileSystemTable = regexp.MustCompile(`(?:bitmap|table) at (\d+)(?:-(\d+))?`)

// keepTables gives the file system's own tables, of free blocks and of inodes, memory that
// is not taken away; noinit_itable keeps the kernel from giving it back. An entry that could
// not be written is read again as it was before, and without a journal nothing sets that
// right; a disk that fails under a journal ends the file system.
func keepTables(image string) error {
	out, err := exec.Command("dumpe2fs", image).Output()
	if err != nil {
		return fmt.Errorf("dumpe2fs: %w", err)
	}
	f, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	const block = 4096
	for _, m := range fileSystemTable.FindAllSubmatch(out, -1) {
		first, err := strconv.ParseInt(string(m[1]), 10, 64)
		if err != nil {
			return err
		}
		last := first
		if len(m[2]) > 0 {
			if last, err = strconv.ParseInt(string(m[2]), 10, 64); err != nil {
				return err
			}
		}
		if err := syscall.Fallocate(int(f.Fd()), 0, first*block, (last-first+1)*block); err != nil {
			return fmt.Errorf("the file system's tables: %w", err)
		}
	}
	return nil
}

// fsck is what e2fsck says of the file system as it is on the disk.
func (d *badDisk) fsck() string {
	syscall.Sync()
	out, err := exec.Command("e2fsck", "-fn", filepath.Join(d.back, "image")).CombinedOutput()
	return fmt.Sprintf("%s%v", tail(string(out), 4<<10), err)
}

// free is how many bytes there are for files.
func free(dir string) int64 {
	var st syscall.Statfs_t
	if syscall.Statfs(dir, &st) != nil {
		return 0
	}
	return int64(st.Bavail) * st.Bsize
}

// fill leaves so many bytes of the disk free.
func (d *badDisk) fill(left int64) {
	d.t.Helper()
	if err := reserve(filepath.Join(d.dir, "filler"), free(d.dir)-left); err != nil {
		d.t.Fatal(err)
	}
}

func (d *badDisk) empty() { _ = os.Remove(filepath.Join(d.dir, "filler")) }

// fail takes the memory away that is behind the disk.
func (d *badDisk) fail() {
	d.t.Helper()
	if err := reserve(filepath.Join(d.back, "gone"), free(d.back)); err != nil {
		d.t.Fatal(err)
	}
}

func (d *badDisk) mend() { _ = os.Remove(filepath.Join(d.back, "gone")) }

// reserve makes a file that takes size bytes, or all that there are.
func reserve(name string, size int64) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	for at, step := int64(0), int64(1<<20); err == nil && at < size && step >= 4096; {
		if err = syscall.Fallocate(int(f.Fd()), 0, at, min(step, size-at)); err == nil {
			at += step
		} else if errors.Is(err, syscall.ENOSPC) {
			err, step = nil, step/2 // somebody else writes, too
		}
	}
	return errors.Join(err, f.Close())
}

// health is what /healthz says: 200, or 503 and why.
func health(addr string) (code int, text string) {
	c := http.Client{Timeout: 5 * time.Second}
	resp, err := c.Get("http://" + addr + "/healthz")
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b)
}

// The disk fills up, and has room again; it fails, and works again. The daemon goes
// on without a restart, clients stay connected and hear 4xx meanwhile, and all that
// was accepted arrives, once.
func TestDiskFullAndFailing(t *testing.T) {
	if os.Getenv(envOwnNetwork) != "" || testing.Short() {
		t.Skip("not in this process, or -short")
	}
	t.Parallel()
	dir := t.TempDir()
	disk, err := newBadDisk(t, filepath.Join(dir, "var"))
	if err != nil {
		t.Skip(err)
	}
	host := fmt.Sprintf("127.%d.%d.253", 64+os.Getpid()>>8&63, os.Getpid()&255)
	ports, err := freePorts(host, 3)
	if err != nil {
		t.Fatal(err)
	}
	smtp, next, console := ports[0], ports[1], ports[2]
	config := strings.Replace(fmt.Sprintf(tortureConfig, smtp, next), `address = ""`, fmt.Sprintf("address = %q", console), 1)
	if err := os.WriteFile(filepath.Join(dir, "postern.toml"), []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	s := newSink(next)
	defer s.down()
	g := &gateway{bin: needBinaries(t), dir: dir, smtp: smtp, env: append(os.Environ(), "POSTERN_CONFIG="+filepath.Join(dir, "postern.toml"))}
	defer g.end()
	if err := g.start(); err != nil {
		t.Fatalf("%v\n%s", err, g.log())
	}
	pid := g.cmd.Process.Pid
	l := newLoadOf(smtp, 0, loadMax, false)
	client := dialLoad(smtp)
	if client == nil {
		t.Fatal("no connection")
	}
	defer client.close()
	// send sends one message, of a size that has a file of its own or not.
	send := func(size int) int {
		t.Helper()
		token, body := newLoad(1)
		for len(body) < size {
			body = append(body, body...)
		}
		code, err := client.send(token, body)
		if err != nil {
			t.Fatalf("the session ended: %v\n%s", err, tail(g.log(), 8<<10))
		}
		l.note(code, token, body)
		return code
	}
	// becomes waits until messages get this answer.
	becomes := func(want int, what string) {
		t.Helper()
		code := 0
		if !poll(90*time.Second, func() bool { code = send(100_000); return code == want }) {
			t.Fatalf("%s: %d\n%s", what, code, tail(g.log(), 8<<10))
		}
	}
	healthy := func(want int, what string) (text string) {
		t.Helper()
		code := 0
		if !poll(90*time.Second, func() bool { code, text = health(console); return code == want }) {
			t.Fatalf("%s: health is %d %s\n%s", what, code, text, tail(g.log(), 8<<10))
		}
		return text
	}
	for _, size := range []int{200, 20_000, 400_000} {
		if code := send(size); code != 250 {
			t.Fatalf("before: %d", code)
		}
	}
	disk.fill(56 << 20)
	becomes(452, "the disk is full")
	if code := send(400_000); code != 452 {
		t.Errorf("a large message for a full disk: %d", code)
	}
	healthy(200, "the disk is merely full")
	disk.empty()
	becomes(250, "the disk has room again")

	for round := range 2 {
		disk.fail()
		if !poll(60*time.Second, func() bool { return send(400_000) != 250 && send(40_000) != 250 }) {
			t.Fatal("the disk does not fail")
		}
		if round == 0 {
			if err := s.up(nil); err != nil {
				t.Fatal(err)
			}
		}
		// A body file that fails is the message's matter; the store's log is the queue's.
		poll(30*time.Second, func() bool {
			send(100_000)
			code, _ := health(console)
			return code == 503
		})
		if text := healthy(503, "the disk fails"); !strings.Contains(text, "opened again") {
			t.Errorf("health: %s", text)
		}
		if code := send(200); code != 451 {
			t.Errorf("a message while the queue has failed: %d", code)
		}
		disk.mend()
		healthy(200, "the disk works again")
		becomes(250, "the disk works again")
	}
	if !g.running() || g.cmd.Process.Pid != pid {
		t.Fatal("that was another process")
	}
	client.close()
	if err := g.cmd.Process.Signal(syscall.SIGALRM); err != nil { // the next hop was down
		t.Fatal(err)
	}
	var a audit
	poll(60*time.Second, func() bool {
		a = l.audit(s.arrivals())
		return len(a.missing) == 0
	})
	t.Logf("%d accepted, %d arrived, replies %s", l.count(), a.arrived, l)
	if len(a.missing)+len(a.damaged)+len(a.twice) > 0 {
		t.Errorf("missing %d %q, damaged %d %q, twice %d %q\n%s", len(a.missing), few(a.missing), len(a.damaged), few(a.damaged), len(a.twice), few(a.twice), tail(g.log(), 8<<10))
	}
	if err := g.stop(); err != nil {
		t.Error(err)
	}
	if out := string(g.ask("queue", "fsck")); !strings.Contains(out, ": 0 faults") {
		t.Errorf("fsck: %s", out)
	}

	// While no daemon runs, mail is not taken for a disk that fails.
	inject := func(size int) error {
		cmd := exec.Command(filepath.Join(g.bin, "postern"), "inject", "--from", "load@client.example", "r@example.net")
		cmd.Dir, cmd.Env = g.dir, g.env
		cmd.Stdin = io.MultiReader(strings.NewReader("Subject: x\r\n\r\n"), io.LimitReader(lines{}, int64(size)))
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}
	disk.fail()
	if err := inject(160 << 20); err == nil {
		t.Error("injected into a disk that fails, and told that it is safe")
	}
	disk.mend()
	if err := inject(1000); err != nil {
		t.Errorf("injected when the disk works again: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "var", "drop", "*")); len(left) != 1 {
		t.Errorf("drop files: %v", left)
	}
}

// lines is a text without end.
type lines struct{}

func (lines) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = "0123456789abcde\n"[i%16]
	}
	return len(p), nil
}
