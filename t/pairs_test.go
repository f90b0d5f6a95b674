package t

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// pairs is a gateway that takes mail by every protocol and sends it on by every
// protocol, and what went through it.
type pairs struct {
	t       *testing.T
	g       *gateway
	listens map[string]string // by protocol
	hops    map[string]*sink  // by domain
	reports *sink             // where notices of failure come

	mu      sync.Mutex
	passed  []*passage
	refused int
}

// passage is a message that the gateway took.
type passage struct {
	name, in  string
	token     string // local part of its recipients
	want      []byte // what must arrive
	binary    bool   // it came as BODY=BINARYMIME
	completed bool   // RFC 6409: Date and Message-ID may have been added
}

// The domains are the protocols by which their mail goes out.
var pairDomains = []string{"piped.example", "bdat.example", "lmtp.example", "plain.example", "box.example"}

func newPairs(t *testing.T, mode string) *pairs {
	t.Helper()
	host := fmt.Sprintf("127.%d.%d.253", 64+os.Getpid()>>8&63, os.Getpid()&255) // where nobody else listens
	addrs, err := freePorts(host, 8)
	if err != nil {
		t.Fatal(err)
	}
	p := &pairs{t: t, listens: map[string]string{"smtp": addrs[0], "lmtp": addrs[1], "submission": addrs[2]}, hops: map[string]*sink{}, reports: newSink(addrs[3])}
	usual := []string{"PIPELINING", "SIZE 104857600", "8BITMIME", "ENHANCEDSTATUSCODES"}
	for i, domain := range pairDomains[:4] {
		p.hops[domain] = newSink(addrs[4+i])
	}
	p.hops["bdat.example"].offers = append(usual, "CHUNKING", "BINARYMIME")
	p.hops["lmtp.example"].lmtp, p.hops["lmtp.example"].offers = true, usual
	p.hops["plain.example"].replies["ehlo"] = "502 5.5.1 What is that?"
	dir := t.TempDir()
	text := "[server]\nhostname = \"mx.example.net\"\n[limits]\nconnections_per_client = 500\nerrors = 10000\n[console]\naddress = \"\"\n[[domain]]\nname = \"box.example\"\nrecipients = \"any\"\n"
	for protocol, addr := range p.listens {
		text += fmt.Sprintf("[[listen]]\nname = %q\nprotocol = %q\naddress = %q\ntls = \"off\"\nrelay_from = [\"127.0.0.0/8\"]\n", protocol, protocol, addr)
	}
	for _, domain := range pairDomains[:4] {
		scheme := "smtp"
		if domain == "lmtp.example" {
			scheme = "lmtp"
		}
		text += fmt.Sprintf("[[route]]\nto_domain = [%q]\nnext_hop = \"%s://%s\"\ntls = \"none\"\nmode = %q\n", domain, scheme, p.hops[domain].addr, mode)
	}
	text += fmt.Sprintf("[[route]]\nto_domain = [\"box.example\"]\nnext_hop = \"local\"\n[[route]]\nto_domain = [\"*\"]\nnext_hop = \"smtp://%s\"\ntls = \"none\"\n", p.reports.addr)
	if err := os.WriteFile(filepath.Join(dir, "postern.toml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p.g = &gateway{bin: needBinaries(t), dir: dir, smtp: addrs[0], env: append(os.Environ(), "TZ=UTC")}
	for _, s := range append([]*sink{p.reports}, p.sinks()...) {
		if err := s.up(nil); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.down)
	}
	t.Cleanup(func() {
		p.g.end()
		if t.Failed() {
			t.Logf("the gateway's log:\n%s", tail(p.g.log(), 4<<10))
		}
	})
	if err := p.g.start(); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *pairs) sinks() (list []*sink) {
	for _, domain := range pairDomains[:4] {
		list = append(list, p.hops[domain])
	}
	return list
}

// crlf makes CRLF of every LF.
func crlf(b []byte) []byte {
	return bytes.ReplaceAll(bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n"))
}

// halfBinary is a message whose header section has CRLF, and whose body is as it
// is (RFC 3030 section 3).
func halfBinary(b []byte) []byte {
	for _, end := range []string{"\r\n\r\n", "\n\n"} {
		if head, body, ok := bytes.Cut(b, []byte(end)); ok && !bytes.Contains(head, []byte("\n\n")) {
			return slices.Concat(crlf(head), []byte("\r\n\r\n"), body)
		}
	}
	return crlf(b)
}

func ended(b []byte) []byte {
	if len(b) > 0 && !bytes.HasSuffix(b, []byte("\r\n")) {
		return append(slices.Clone(b), "\r\n"...)
	}
	return b
}

// bare tells whether there is what no line of a message may hold.
func bare(b []byte) bool {
	return bytes.ContainsAny(bytes.ReplaceAll(b, []byte("\r\n"), nil), "\r\n\x00")
}

// inbound is a way in. form is what is sent of a message; refuses tells whether
// that must be refused.
type inbound struct {
	name, listener, params string
	chunks, completes      bool
	form                   func([]byte) []byte
	refuses                func([]byte) bool
}

var inbounds = []inbound{
	{"DATA", "smtp", "", false, false, func(b []byte) []byte { return ended(crlf(b)) }, bare},
	{"BDAT", "smtp", "", true, false, crlf, bare},
	{"BINARYMIME", "smtp", " BODY=BINARYMIME", true, false, halfBinary, func(b []byte) bool {
		head, _, _ := bytes.Cut(b, []byte("\r\n\r\n"))
		return bare(head) && hasField(head)
	}},
	{"LMTP", "lmtp", "", false, false, func(b []byte) []byte { return ended(crlf(b)) }, bare},
	{"submission", "submission", "", false, true, func(b []byte) []byte { return ended(crlf(b)) }, bare},
	{"inject", "", "", false, true, func(b []byte) []byte {
		if bytes.HasSuffix(b, []byte("\r")) { // a line's end, there
			b = append(slices.Clone(b), '\n')
		}
		return ended(crlf(b))
	}, bare},
}

var firstField = regexp.MustCompile(`^[!-9;-~]+[ \t]*:`)

// hasField tells whether a message begins with a header section at all.
func hasField(b []byte) bool { return firstField.Match(b) }

// send hands all messages in by one way.
func (p *pairs) send(in inbound, names []string, texts map[string][]byte) {
	if in.name == "inject" {
		p.inject(in, names, texts)
		return
	}
	c, err := dialPairs(p.listens[in.listener], in.listener == "lmtp")
	if err != nil {
		p.t.Errorf("%s: %v", in.name, err)
		return
	}
	defer c.Close()
	for i, name := range names {
		one := &passage{name: name, in: in.name, token: fmt.Sprintf("m%d.%s", i, strings.ToLower(in.name)), want: in.form(texts[name]), binary: in.params != "", completed: in.completes}
		reply, err := c.message(one, in)
		if err != nil {
			p.t.Errorf("%s by %s: %v", name, in.name, err)
			return
		}
		p.note(one, in, reply, strings.HasPrefix(reply, "554 5.6.11"))
	}
}

// note checks the answer to a message.
func (p *pairs) note(one *passage, in inbound, reply string, unfit bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	refuse := in.refuses(one.want)
	switch {
	case refuse && unfit:
		p.refused++
	case !refuse && strings.HasPrefix(reply, "250"):
		p.passed = append(p.passed, one)
	default:
		p.t.Errorf("%s by %s: %q, refused should be %v", one.name, in.name, reply, refuse)
	}
}

// inject runs the command, a few at a time.
func (p *pairs) inject(in inbound, names []string, texts map[string][]byte) {
	var wg sync.WaitGroup
	places := make(chan struct{}, 3)
	for i, name := range names {
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			one := &passage{name: name, in: in.name, token: fmt.Sprintf("m%d.inject", i), want: in.form(texts[name]), completed: true}
			args := []string{"inject", "--from", "s@reports.example"}
			for _, domain := range pairDomains {
				args = append(args, one.token+"@"+domain)
			}
			cmd := exec.CommandContext(p.t.Context(), filepath.Join(p.g.bin, "postern"), args...)
			cmd.Dir, cmd.Env, cmd.Stdin = p.g.dir, p.g.env, bytes.NewReader(texts[name])
			out, err := cmd.CombinedOutput()
			if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
				p.t.Errorf("%s: %v", name, err)
				return
			}
			reply := string(out)
			if err == nil {
				reply = "250 " + reply
			}
			p.note(one, in, reply, strings.Contains(reply, "5.6.11"))
		})
	}
	wg.Wait()
}

// pairConn is a client's session.
type pairConn struct {
	net.Conn
	r    *bufio.Reader
	lmtp bool
}

func dialPairs(addr string, lmtp bool) (*pairConn, error) {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	c := &pairConn{nc, bufio.NewReader(nc), lmtp}
	hello := "EHLO client.example"
	if lmtp {
		hello = "LHLO client.example"
	}
	for _, line := range []string{"", hello} {
		if _, err := c.say(line); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// say sends a line, if any, and returns the last line of the reply.
func (c *pairConn) say(line string) (string, error) {
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return "", err
	}
	if line != "" {
		if _, err := io.WriteString(c, line+"\r\n"); err != nil {
			return "", err
		}
	}
	lines, err := readReply(c.r)
	if err != nil {
		return "", err
	}
	return lines[len(lines)-1], nil
}

// message sends one and returns the answer to it.
func (c *pairConn) message(one *passage, in inbound) (string, error) {
	steps := []string{"MAIL FROM:<s@reports.example>" + in.params}
	for _, domain := range pairDomains {
		steps = append(steps, "RCPT TO:<"+one.token+"@"+domain+">")
	}
	for _, line := range steps {
		if reply, err := c.say(line); err != nil || reply[0] != '2' {
			return "", fmt.Errorf("%s: %s %w", line, reply, err)
		}
	}
	if in.chunks {
		half := len(one.want) / 2
		if _, err := fmt.Fprintf(c, "BDAT %d\r\n%sBDAT %d LAST\r\n%s", half, one.want[:half], len(one.want)-half, one.want[half:]); err != nil {
			return "", err
		}
		first, err := c.say("")
		if err != nil {
			return "", err
		}
		last, err := c.say("")
		if first[0] != '2' {
			return first, err
		}
		return last, err
	}
	if reply, err := c.say("DATA"); err != nil || reply[0] != '3' {
		return "", fmt.Errorf("DATA: %s %w", reply, err)
	}
	if _, err := c.Write(stuffed(one.want)); err != nil {
		return "", err
	}
	reply, err := c.say("")
	for range len(pairDomains) - 1 {
		if c.lmtp && err == nil {
			reply, err = c.say("")
		}
	}
	return reply, err
}

// TestEveryPairOfProtocols relays messages through every pair of a protocol in
// and a protocol out: byte for byte behind the trace fields, or, to hosts that
// can't take what they are, with the same content in another transfer encoding,
// or back with the reason. POSTERN_CORPUS=DIR adds every file below DIR; without it,
// those of ../shared/corpus beside the repository, where that is, but for inject.
func TestEveryPairOfProtocols(t *testing.T) {
	if os.Getenv(envOwnNetwork) != "" {
		t.Skip("not in this process")
	}
	t.Parallel()
	texts := map[string][]byte{}
	for name, text := range samples() {
		texts[name] = []byte(text)
	}
	own := slices.Sorted(maps.Keys(texts))
	if dir := os.Getenv("POSTERN_CORPUS"); dir != "" {
		addCorpus(t, dir, texts)
		own = slices.Sorted(maps.Keys(texts))
	} else if dir := "../../shared/corpus"; exists(dir) {
		addCorpus(t, dir+"/mime", texts)
		addCorpus(t, dir+"/mail", texts)
	} else {
		t.Log("without real messages: there is neither POSTERN_CORPUS nor ../shared/corpus")
	}
	names := slices.Sorted(maps.Keys(texts))
	p := newPairs(t, "queue")
	var all sync.WaitGroup
	for _, in := range inbounds {
		list := names
		if in.name == "inject" { // a process for each
			list = own
		}
		all.Go(func() { p.send(in, list, texts) })
	}
	all.Wait()
	p.check()
	if err := p.g.stop(); err != nil {
		t.Error(err)
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// addCorpus adds the messages below a folder: all files that are no description
// of them.
func addCorpus(t *testing.T, dir string, texts map[string][]byte) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		name := d.Name()
		if err != nil || d.IsDir() || strings.HasSuffix(name, ".json") || slices.Contains([]string{"SOURCE", "LICENSE", "COPYING"}, name) {
			return err
		}
		text, err := os.ReadFile(path)
		texts[strings.TrimPrefix(path, dir)] = text
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
