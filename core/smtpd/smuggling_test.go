package smtpd

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/postern-mta/postern/hooks"
)

// twoPackets gives its text in two reads, cut at a place.
type twoPackets struct {
	net.Conn
	text string
	at   int
}

func (p *twoPackets) Read(b []byte) (int, error) {
	if p.text == "" {
		return 0, io.EOF
	}
	n := copy(b, p.text[:min(max(p.at, 1), len(p.text))])
	p.text, p.at = p.text[n:], len(p.text)
	return n, nil
}

// TestSmugglingEveryCut: every sequence that some server takes for the end of
// data, the packets cut at every octet of the text behind DATA, of a chunk, and
// the chunks cut at every octet: never two messages, never an early end, and what
// is taken has no bare CR, LF or NUL in it (checklist 1 to 4).
func TestSmugglingEveryCut(t *testing.T) {
	const (
		begin    = "EHLO x\r\nMAIL FROM:<s@client.example.org>\r\nRCPT TO:<t@example.net>\r\n"
		smuggled = "MAIL FROM:<m@evil.example>\r\nRCPT TO:<t@example.net>\r\nDATA\r\n\r\nx"
		head     = "S: x\r\n\r\nb"
	)
	ways := map[string]func(text string, at int) (in string, cut int){
		"DATA": func(text string, at int) (string, int) {
			return begin + "DATA\r\n" + text + "\r\n.\r\n", len(begin) + len("DATA\r\n") + at
		},
		"BDAT": func(text string, at int) (string, int) {
			start := fmt.Sprintf("%sBDAT %d LAST\r\n", begin, len(text))
			return start + text, len(start) + at
		},
		"two BDAT": func(text string, at int) (string, int) {
			start := fmt.Sprintf("%sBDAT %d\r\n%s", begin, at, text[:at])
			return start + fmt.Sprintf("BDAT %d LAST\r\n%s", len(text)-at, text[at:]), len(start)
		},
	}
	for name, way := range ways {
		for _, normalise := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s normalise=%v", name, normalise), func(t *testing.T) {
				for _, end := range smugglers {
					text := head + end + smuggled
					for at := range len(text) {
						smuggle(t, text, at, normalise, way)
					}
				}
			})
		}
	}
}

// smuggle plays one session.
func smuggle(t *testing.T, text string, at int, normalise bool, way func(string, int) (string, int)) {
	t.Helper()
	r := newRig(t, Limits{NormaliseLF: normalise})
	r.handlers = []hooks.Entry{{Name: "rule", Handler: handler{"rule", []hooks.Stage{hooks.Rcpt}, rule}}}
	in, cut := way(text, at)
	out := string(r.direct(&twoPackets{text: in + "NOOP\r\nQUIT\r\n", at: cut}))
	mails := r.door.all()
	if len(mails) != 1 || mails[0].sender != "s@client.example.org" || !mails[0].ended || mails[0].aborted {
		t.Fatalf("%q at %d: %d messages: %q", text, at, len(mails), out)
	}
	if !strings.HasSuffix(out, "\r\n250 2.0.0 Ok\r\n221 2.0.0 Bye\r\n") || strings.Count(out, " 2.1.0 ") != 1 {
		t.Fatalf("%q at %d: %q", text, at, out)
	}
	m := mails[0]
	if m.refusal == nil && (hasBare(string(m.text)) || !strings.Contains(string(m.text), "m@evil.example")) {
		t.Fatalf("%q at %d: taken as %q", text, at, m.text)
	}
	bare := strings.ReplaceAll(text, "\r\n", "")
	if refused := strings.ContainsAny(bare, "\r\x00") || !normalise && strings.Contains(bare, "\n"); refused != (m.refusal != nil) {
		t.Fatalf("%q at %d: refusal %v", text, at, m.refusal)
	}
}
