package remote

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/postern-mta/postern/core/send"
)

// smugglers are byte strings that some server takes for the end of data.
var smugglers = []string{
	"\r\n.\r\n", "\n.\n", "\n.\r\n", "\n.\r", "\r.\r", "\r.\n", "\r.\r\n", "\r\n.\n", "\r\n.\r", "\r\n.\r\r\n", "\r\r\n.\r\r\n", "\r\n.\r\r",
	"\n\r.\n\r", "\n\n.\n\n", "\r\r.\r\r", "\r\n.\x00\r\n", "\r\n\x00.\r\n", "\r\n.\r\x00\n", "\r\x00\n.\r\n", "\x00\n.\n", "\r\n..\r\n",
}

const smuggled = "MAIL FROM:<m@evil.example>\r\nRCPT TO:<x@x.example>\r\nDATA\r\n\r\nsmuggled\r\n"

// oneEnd tells what is wrong with what goes behind DATA: nothing but CRLF ends a
// line, and a line of a dot stands at its end and nowhere else.
func oneEnd(sent string) string {
	lines, ok := strings.CutSuffix("\r\n"+sent, "\r\n.\r\n")
	switch {
	case !ok:
		return "no end"
	case strings.ContainsAny(strings.ReplaceAll(lines, "\r\n", ""), "\r\n"):
		return "a bare CR or LF"
	case strings.Contains(lines+"\r\n", "\r\n.\r\n"):
		return "an end before the end"
	}
	for line := range strings.SplitSeq(lines, "\r\n") {
		if strings.Trim(line, ".\x00") == "" && strings.HasPrefix(line, ".") && !strings.HasPrefix(line, "..") && !strings.HasPrefix(line, ".\x00") {
			return fmt.Sprintf("the line %q", line)
		}
	}
	return ""
}

// TestSmugglingOut: whatever is in a message, in whatever pieces it is read, what
// leaves behind DATA has one end of data (attack 1).
func TestSmugglingOut(t *testing.T) {
	for _, end := range smugglers {
		for _, head := range []string{"Subject: x\r\n\r\nbody", "Subject: x", ""} {
			text := head + end + smuggled
			for at := range len(text) + 1 {
				s := stuffer{}
				s.add([]byte(text[:at]))
				s.add([]byte(text[at:]))
				s.finish()
				if bad := oneEnd(string(s.out)); bad != "" {
					t.Fatalf("%q cut at %d: %s: %q", text, at, bad, s.out)
				}
				if !strings.Contains(string(s.out), "smuggled\r\n.\r\n") {
					t.Fatalf("%q cut at %d lost something: %q", text, at, s.out)
				}
			}
		}
	}
}

// raw is a next hop that keeps every byte it is sent.
type raw struct {
	net.Conn
	mu  sync.Mutex
	all bytes.Buffer
}

func (r *raw) Write(p []byte) (int, error) {
	r.mu.Lock()
	r.all.Write(p)
	r.mu.Unlock()
	return r.Conn.Write(p)
}

// TestSmugglingToHosts: messages that hold such sequences, as intake lets them in
// (binary ones) and as no intake does (a queue file from elsewhere), to hosts with
// and without BDAT: byte for byte in counted chunks, else with one end.
func TestSmugglingToHosts(t *testing.T) {
	for _, ext := range []string{"8BITMIME BINARYMIME CHUNKING", "8BITMIME CHUNKING PIPELINING", "8BITMIME", "PIPELINING", ""} {
		for _, end := range smugglers {
			for _, binary := range []bool{true, false} {
				text := "MIME-Version: 1.0\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: binary\r\n\r\nfirst" + end + smuggled
				smuggleTo(t, strings.Fields(ext), text, binary)
				smuggleTo(t, strings.Fields(ext), strings.TrimSuffix(text, "\r\n"), binary)
			}
		}
	}
}

func smuggleTo(t *testing.T, ext []string, text string, binary bool) {
	t.Helper()
	s := newSink(t, func(s *sink) { s.ehlo = ext })
	defer s.close()
	var kept *raw
	c := newClient(t, func(o *Options) {
		o.Dial = func(ctx context.Context, source netip.Addr, network, address string) (net.Conn, error) {
			nc, err := dialNet(ctx, source, network, address)
			kept = &raw{Conn: nc}
			return kept, err
		}
	})
	defer c.Close()
	j := jobTo(t, s, text)
	j.Message.Binary = binary
	o := outcomes(t, j, c.Deliver(t.Context(), j))[0]
	mails := s.got()
	if o.Result != send.Delivered || len(mails) != 1 || mails[0].from[:18] != "<s@client.example>" {
		t.Fatalf("%v binary=%v %q: %+v, %d messages", ext, binary, text, o, len(mails))
	}
	if mails[0].bdat {
		if string(mails[0].data) != text {
			t.Fatalf("%v binary=%v: %q by BDAT became %q", ext, binary, text, mails[0].data)
		}
		return
	}
	kept.mu.Lock()
	defer kept.mu.Unlock()
	_, sent, _ := strings.Cut(kept.all.String(), "DATA\r\n")
	sent, _, _ = strings.Cut(sent, "QUIT\r\n")
	if bad := oneEnd(sent); bad != "" {
		t.Fatalf("%v binary=%v: %s: %q", ext, binary, bad, sent)
	}
}
