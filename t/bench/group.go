//go:build linux

package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// group is the processes of one server. Where control groups can be made (version
// 2 or 1), it is one, so that nothing that short-lived children use is missed.
// Elsewhere it is the processes that work in the server's folder, with the
// children that they have waited for.
type group struct {
	dir   string // the folder of the server
	files string // the control group's own; "" where there is none
	cpu   func() (time.Duration, error)
}

// Where control groups are mounted.
const (
	groupsV2 = "/sys/fs/cgroup"
	groupsV1 = "/sys/fs/cgroup/cpuacct"
)

func newGroup(dir, name string) *group {
	g := &group{dir: dir}
	name = fmt.Sprintf("postern-bench-%d-%s", os.Getpid(), name)
	if _, err := os.Stat(filepath.Join(groupsV2, "cgroup.controllers")); err == nil && os.Mkdir(filepath.Join(groupsV2, name), 0o755) == nil {
		g.files = filepath.Join(groupsV2, name)
		g.cpu = func() (time.Duration, error) {
			n, err := numberBehind(filepath.Join(g.files, "cpu.stat"), "usage_usec")
			return time.Duration(n) * time.Microsecond, err
		}
	} else if os.Mkdir(filepath.Join(groupsV1, name), 0o755) == nil {
		g.files = filepath.Join(groupsV1, name)
		g.cpu = func() (time.Duration, error) {
			n, err := numberBehind(filepath.Join(g.files, "cpuacct.usage"), "")
			return time.Duration(n), err
		}
	} else {
		g.cpu = g.ticks
	}
	return g
}

// numberBehind is the number that follows a word in a file, or its first one.
func numberBehind(file, word string) (int64, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	_, rest, _ := bytes.Cut(text, []byte(word))
	if words := bytes.Fields(rest); len(words) > 0 {
		return strconv.ParseInt(string(words[0]), 10, 64)
	}
	return 0, fmt.Errorf("%s has no %s", file, word)
}

// wrap is a command line that runs args as a part of the group.
func (g *group) wrap(args ...string) []string {
	if g.files == "" {
		return args
	}
	return append([]string{"sh", "-c", `echo $$ >"$0" && exec "$@"`, filepath.Join(g.files, "cgroup.procs")}, args...)
}

// pids are its processes that live.
func (g *group) pids() (list []int) {
	if g.files != "" {
		text, _ := os.ReadFile(filepath.Join(g.files, "cgroup.procs")) // gone: none
		for _, word := range strings.Fields(string(text)) {
			if n, err := strconv.Atoi(word); err == nil {
				list = append(list, n)
			}
		}
		return list
	}
	places, _ := filepath.Glob("/proc/[0-9]*/cwd")
	for _, p := range places {
		if at, err := os.Readlink(p); err == nil && strings.HasPrefix(at+"/", g.dir+"/") {
			n, _ := strconv.Atoi(strings.Split(p, "/")[2])
			list = append(list, n)
		}
	}
	return list
}

// ticks is the processor time that the processes, and the children they waited
// for, have used.
func (g *group) ticks() (sum time.Duration, err error) {
	const tick = time.Second / 100 // USER_HZ, the same on every architecture that Go runs on
	for _, pid := range g.pids() {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue // it ended
		}
		f := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
		for _, word := range f[11:15] { // utime, stime, cutime, cstime
			n, err := strconv.Atoi(word)
			if err != nil {
				return 0, err
			}
			sum += time.Duration(n) * tick
		}
	}
	return sum, nil
}

// pss is the memory of all processes in octets, shared pages divided among those
// that share them.
func (g *group) pss() (sum int64) {
	for _, pid := range g.pids() {
		n, _ := numberBehind(fmt.Sprintf("/proc/%d/smaps_rollup", pid), "\nPss:") // ended: nothing
		sum += n << 10
	}
	return sum
}

// rss is the resident memory of all processes in octets, and the most that it was
// since calm.
func (g *group) rss() (now, most int64) {
	for _, pid := range g.pids() {
		a, _ := numberBehind(fmt.Sprintf("/proc/%d/status", pid), "\nVmRSS:")
		b, _ := numberBehind(fmt.Sprintf("/proc/%d/status", pid), "\nVmHWM:")
		now, most = now+a<<10, most+b<<10
	}
	return now, most
}

// calm forgets the most memory that the processes had.
func (g *group) calm() {
	for _, pid := range g.pids() {
		_ = os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0)
	}
}

// end kills what lives of the group still, and forgets it.
func (g *group) end() {
	for range 100 {
		list := g.pids()
		if len(list) == 0 {
			break
		}
		for _, pid := range list {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		time.Sleep(50 * time.Millisecond)
	}
	if g.files != "" {
		for range 20 {
			if os.Remove(g.files) == nil {
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
}

// watchMemory samples pss until the function it gives is called, which tells the
// most that was seen.
func (g *group) watchMemory(every time.Duration) func() int64 {
	stop, most := make(chan struct{}), int64(0)
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				most = max(most, g.pss())
			}
		}
	})
	return func() int64 {
		close(stop)
		wg.Wait()
		return max(most, g.pss())
	}
}

// machine says what the figures were measured on.
func machine() string {
	name := "unknown processor"
	if f, err := os.Open("/proc/cpuinfo"); err == nil {
		defer f.Close()
		for lines := bufio.NewScanner(f); lines.Scan(); {
			if key, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(key) == "model name" {
				name = strings.TrimSpace(value)
				break
			}
		}
	}
	var u unix.Utsname
	_ = unix.Uname(&u)
	return name + ", Linux " + unix.ByteSliceToString(u.Release[:])
}
