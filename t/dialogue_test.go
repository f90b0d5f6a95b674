package t

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// cmdSMTP plays a dialogue with the gateway:
//
//	smtp FILE [from SOURCEIP]
//
// Each line of FILE is one of
//
//	C: text         sent with CRLF; several in a row are pipelined
//	C~ "a\nb"       bytes, as a Go string in quotes, sent as they are
//	C< FILE         a file as a message: LF made CRLF, dots doubled, and the final dot
//	S: 250 2.1.0    a reply whose last line begins so
//	S~ regexp       a reply (all its lines) that matches
//	S.              the server hangs up
//	TLS             the handshake
//	-- [SOURCEIP]   another connection
//
// stdout has the replies; ID is set to the id in "queued as ID", or in "… (ID)".
func cmdSMTP(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 && (len(args) != 3 || args[1] != "from") {
		ts.Fatalf("usage: smtp FILE [from SOURCEIP]")
	}
	d := &dialogue{addr: ts.Getenv("SMTP"), read: func(name string) []byte { return []byte(ts.ReadFile(name)) }, shown: ts.Stdout()}
	if len(args) == 3 {
		d.source = args[2]
	}
	err := d.play(ts.ReadFile(args[0]))
	if d.id != "" {
		ts.Setenv("ID", d.id)
	}
	if (err != nil) != neg {
		ts.Fatalf("%s: %v", args[0], err)
	}
}

type dialogue struct {
	addr, source string
	read         func(name string) []byte
	shown        io.Writer
	conn         net.Conn
	r            *bufio.Reader
	id           string
}

const replyLimit = 15 * time.Second

func (d *dialogue) play(script string) error {
	if err := d.connect(d.source); err != nil {
		return err
	}
	defer func() { _ = d.conn.Close() }()
	n := 0
	for line := range strings.Lines(script) {
		n++
		line = strings.TrimRight(line, "\n")
		if strings.TrimSpace(line) == "" || line[0] == '#' {
			continue
		}
		if err := d.step(line); err != nil {
			return fmt.Errorf("line %d: %s: %w", n, line, err)
		}
	}
	return nil
}

func (d *dialogue) connect(source string) error {
	dialer := net.Dialer{Timeout: replyLimit}
	if source != "" {
		dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(source)}
	}
	c, err := dialer.Dial("tcp", d.addr)
	if err != nil {
		return err
	}
	if d.conn != nil {
		_ = d.conn.Close()
	}
	d.conn, d.r = c, bufio.NewReader(c)
	return nil
}

func (d *dialogue) step(line string) error {
	if err := d.conn.SetDeadline(time.Now().Add(replyLimit)); err != nil {
		return err
	}
	kind, arg, _ := strings.Cut(line, " ")
	switch kind {
	case "C:":
		return d.write(arg + "\r\n")
	case "C~":
		raw, err := strconv.Unquote(arg)
		if err != nil {
			return err
		}
		return d.write(raw)
	case "C<":
		return d.write(string(stuffed(d.read(arg))))
	case "S:":
		return d.expect(func(lines []string) bool { return strings.HasPrefix(lines[len(lines)-1], arg) })
	case "S~":
		re, err := regexp.Compile(arg)
		if err != nil {
			return err
		}
		return d.expect(func(lines []string) bool { return re.MatchString(strings.Join(lines, "\n")) })
	case "S.":
		line, err := d.r.ReadString('\n')
		if ne, ok := errors.AsType[net.Error](err); err == nil || ok && ne.Timeout() {
			return fmt.Errorf("the server did not hang up: %q %w", line, err)
		}
		return nil
	case "TLS":
		c := tls.Client(d.conn, &tls.Config{InsecureSkipVerify: true})
		if err := c.Handshake(); err != nil {
			return err
		}
		d.conn, d.r = c, bufio.NewReader(c)
		return nil
	case "--":
		return d.connect(arg)
	}
	return errors.New("no such step")
}

func (d *dialogue) write(s string) error {
	_, err := io.WriteString(d.conn, s)
	return err
}

// queuedAs finds the id, also where a next hop answered: behind its text, in
// parentheses.
var queuedAs = regexp.MustCompile(`^(?:250 2\.0\.0 Ok: queued as ([0-9A-Za-z]{8,32})|[245]\d\d .*\(([0-9A-Za-z]{8,32})\))$`)

func (d *dialogue) expect(ok func([]string) bool) error {
	lines, err := readReply(d.r)
	for _, l := range lines {
		fmt.Fprintln(d.shown, l)
	}
	if err != nil {
		return err
	}
	if m := queuedAs.FindStringSubmatch(lines[len(lines)-1]); m != nil {
		d.id = m[1] + m[2]
	}
	if !ok(lines) {
		return fmt.Errorf("the reply was %q", lines)
	}
	return nil
}

// readReply reads the lines of one reply, each of which has to end with CRLF.
func readReply(r *bufio.Reader) (lines []string, err error) {
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return lines, err
		}
		text, ok := strings.CutSuffix(line, "\r\n")
		if !ok || len(text) < 3 {
			return lines, fmt.Errorf("no reply line: %q", line)
		}
		lines = append(lines, text)
		if len(text) == 3 || text[3] == ' ' {
			return lines, nil
		}
	}
}

// stuffed is a message as it goes behind DATA.
func stuffed(message []byte) []byte {
	if !bytes.Contains(message, []byte("\r\n")) {
		message = bytes.ReplaceAll(message, []byte("\n"), []byte("\r\n"))
	}
	out := bytes.ReplaceAll(message, []byte("\r\n."), []byte("\r\n.."))
	if bytes.HasPrefix(out, []byte(".")) {
		out = append([]byte("."), out...)
	}
	if len(out) > 0 && !bytes.HasSuffix(out, []byte("\r\n")) {
		out = append(out, "\r\n"...)
	}
	return append(out, ".\r\n"...)
}

// cmdAwait runs a command again and again until its output matches:
//
//	await REGEXP COMMAND [ARG...]
func cmdAwait(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: await REGEXP COMMAND [ARG...]")
	}
	re, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	var last []byte
	matched := pollEvery(150*time.Millisecond, waitLimit, func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
		defer cancel()
		path, err := lookPath(ts, args[1])
		ts.Check(err)
		cmd := exec.CommandContext(ctx, path, args[2:]...)
		cmd.Dir, cmd.Env = worldOf(ts).dir, environment(ts)
		out, err := cmd.Output()
		last = out
		return err == nil && re.Match(out)
	})
	_, _ = ts.Stdout().Write(last)
	if !matched {
		ts.Fatalf("%s never said %s", strings.Join(args[1:], " "), args[0])
	}
}

// environment is what the commands of a script see.
func environment(ts *testscript.TestScript) []string {
	var env []string
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "POSTERN_CONFIG", "NO_COLOR", "GORACE", "HOST", "SMTP", "SINK", "ID"} {
		if v := ts.Getenv(name); v != "" {
			env = append(env, name+"="+v)
		}
	}
	return append(env, "PWD="+worldOf(ts).dir)
}

func lookPath(ts *testscript.TestScript, program string) (string, error) {
	for _, dir := range strings.Split(ts.Getenv("PATH"), ":") {
		path := dir + "/" + program
		if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is not on PATH", program)
}
