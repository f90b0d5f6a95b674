package plugin_test

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/postern-mta/postern/hooks"
	"github.com/postern-mta/postern/hooks/plugin"
)

// What took the program's place behind its back is not started: another file than
// the checksum's, or one with other stages and settings. The right one is, later.
func TestReplacedBetweenStarts(t *testing.T) {
	right, err := os.ReadFile(program(t, "probe"))
	if err != nil {
		t.Fatal(err)
	}
	other, err := os.ReadFile(program(t, "plain"))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(right)
	for _, c := range []struct {
		name, sha256 string
		file         []byte
		want         string
	}{
		{"another checksum", hex.EncodeToString(sum[:]), append(right[:len(right):len(right)], 0), "its SHA-256 is "},
		{"another program", "", other, "its stages, settings or ways changed since it was loaded; reload"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "probe")
			put := func(b []byte) {
				t.Helper()
				if err := os.WriteFile(path+".new", b, 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.Rename(path+".new", path); err != nil {
					t.Fatal(err)
				}
			}
			put(right)
			p, problems, err := plugin.Load(path, plugin.Options{SHA256: c.sha256})
			if err != nil || len(problems) > 0 {
				t.Fatal(problems, err)
			}
			defer p.Close()
			put(c.file)
			unix.Kill(p.Status().PID, unix.SIGKILL)
			eventually(t, "it is refused", func() bool { return strings.Contains(p.Status().LastError, c.want) })
			if s := p.Status(); s.State != plugin.Down || s.Restarts != 0 {
				t.Errorf("%+v", s)
			}
			put(right)
			eventually(t, "the right one runs", func() bool { return p.Status().State == plugin.Running })
			if _, err := ask(t, p, hooks.Mail, mail("x")); err != nil {
				t.Error(err)
			}
		})
	}
}
