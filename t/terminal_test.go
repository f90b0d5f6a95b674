package t

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// cmdTerminal runs a command in a real terminal, tmux's:
//
//	terminal start WIDTHxHEIGHT COMMAND [ARG...]
//	[!] terminal shows REGEXP      until the screen matches, or no longer does
//	terminal keys KEY...           as tmux send-keys has them: q, Enter, Tab, PPage
//	terminal size WIDTHxHEIGHT
//	terminal end                   the command has ended by itself
//
// The screen is shown where the script fails. What the terminal got in bytes is in
// the file typescript.
func cmdTerminal(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 1 || neg && args[0] != "shows" {
		ts.Fatalf("usage: [!] terminal start|shows|keys|size|end ...")
	}
	tmux := func(args ...string) (string, error) {
		cmd := exec.Command("tmux", append([]string{"-f", "/dev/null", "-S", filepath.Join(ts.Getenv("TMPDIR"), "tmux")}, args...)...)
		cmd.Dir = worldOf(ts).dir
		cmd.Env = append(environment(ts), "LC_ALL=C.UTF-8", "TERM=screen-256color")
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	run := func(args ...string) {
		if out, err := tmux(args...); err != nil {
			ts.Fatalf("tmux %s: %v: %s", strings.Join(args, " "), err, out)
		}
	}
	size := func(arg string) (w, h string) {
		w, h, ok := strings.Cut(arg, "x")
		if !ok {
			ts.Fatalf("%q is no WIDTHxHEIGHT", arg)
		}
		return w, h
	}
	switch rest := args[1:]; args[0] {
	case "start":
		w, h := size(rest[0])
		ts.Defer(func() { _, _ = tmux("kill-server") })
		run("new-session", "-d", "-s", "t", "-x", w, "-y", h, "sleep 1000")
		run("set-option", "-g", "remain-on-exit", "on")
		run("set-option", "-g", "status", "off")
		run("pipe-pane", "-t", "t", "cat > typescript")
		run("respawn-pane", "-k", "-t", "t", strings.Join(rest[1:], " "))
	case "shows":
		re, err := regexp.Compile("(?m)" + rest[0])
		ts.Check(err)
		screen := ""
		if !pollEvery(100*time.Millisecond, waitLimit, func() bool {
			screen, _ = tmux("capture-pane", "-p", "-t", "t")
			return re.MatchString(screen) != neg
		}) {
			ts.Fatalf("the terminal's screen, looked at for %q:\n%s", rest[0], screen)
		}
	case "keys":
		run(append([]string{"send-keys", "-t", "t"}, rest...)...)
	case "size":
		w, h := size(rest[0])
		run("resize-window", "-t", "t", "-x", w, "-y", h)
	case "end":
		if !pollEvery(100*time.Millisecond, waitLimit, func() bool {
			out, _ := tmux("display-message", "-p", "-t", "t", "#{pane_dead} #{pane_dead_status}")
			return strings.TrimSpace(out) == "1 0"
		}) {
			ts.Fatalf("the terminal's command does not end well")
		}
	default:
		ts.Fatalf("terminal %s: unknown", args[0])
	}
}
