package message

import (
	"fmt"
	"io"
	"strings"
	"testing"
)

// shape is the structure as a text: type, name and content of each part.
func shape(t testing.TB, m *MIME) string {
	t.Helper()
	var b strings.Builder
	for p := range m.Parts() {
		fmt.Fprintf(&b, "%s%s", strings.Repeat(" ", p.Depth), p.Type)
		if n := p.Name(); n != "" {
			fmt.Fprintf(&b, " [%s]", n)
		}
		if len(p.Children) == 0 {
			raw, err := io.ReadAll(p.Raw())
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&b, " %q", raw)
		}
		if p.Fault != "" {
			fmt.Fprintf(&b, " !%s", p.Fault)
		}
		b.WriteByte('\n')
	}
	if m.Truncated != "" {
		b.WriteString("truncated: " + m.Truncated + "\n")
	}
	return b.String()
}

// crlf gives a text the line ends of the wire.
func crlf(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }

func parsed(t testing.TB, s string) *MIME {
	t.Helper()
	m, err := ParseMIME(Bytes(s))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestMIMEStructure(t *testing.T) {
	for name, c := range map[string]struct{ in, want string }{
		"plain":     {"Subject: x\n\nhello\n", "text/plain \"hello\\r\\n\"\n"},
		"empty":     {"", "text/plain \"\"\n"},
		"no head":   {"\nhello", "text/plain \"hello\"\n"},
		"no fields": {"hello there\n", "text/plain \"hello there\\r\\n\" !no header section\n"},
		"mixed": {
			"Content-Type: multipart/mixed; boundary=b\n\npreamble\n--b\n\none\n--b  \nContent-Type: text/html\n\n<p>\n--bb\n--b--\nepilogue\n",
			"multipart/mixed\n text/plain \"one\"\n text/html \"<p>\\r\\n--bb\"\n",
		},
		"nested message": {
			"Content-Type: multipart/mixed; boundary=a\n\n--a\nContent-Type: message/rfc822\n\nSubject: in\nContent-Type: multipart/alternative; boundary=c\n\n--c\n\nA\n--c--\nend\n--a\n\nB\n--a--\n",
			"multipart/mixed\n message/rfc822\n  multipart/alternative\n   text/plain \"A\"\n text/plain \"B\"\n",
		},
		"digest": {
			"Content-Type: multipart/digest; boundary=a\n\n--a\n\nSubject: in\n\nbody\n--a--\n",
			"multipart/digest\n message/rfc822\n  text/plain \"body\"\n",
		},
		"never closed": {
			"Content-Type: multipart/mixed; boundary=a\n\n--a\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\nx\n--a\n\ny",
			"multipart/mixed !multipart that is never closed\n multipart/mixed !multipart that is never closed\n  text/plain \"x\"\n text/plain \"y\"\n",
		},
		"header without end": {
			"Content-Type: multipart/mixed; boundary=a\n\n--a\nContent-Type: text/x\n--a\nno field\n--a--\n",
			"multipart/mixed\n text/x \"\" !a header section that does not end\n text/plain \"no field\" !no header section\n",
		},
		"same boundary": {
			"Content-Type: multipart/mixed; boundary=a\n\n--a\nContent-Type: multipart/mixed; boundary=a\n\n--a\n\nx\n--a--\n--a--\n",
			"multipart/mixed\n multipart/mixed !the boundary of a multipart around it\n  text/plain \"x\"\n",
		},
		"names": {
			"Content-Type: application/x; name=\"a.txt\"\nContent-Disposition: attachment; filename*0*=utf-8''b%2e; filename*1=exe\n\nx\n",
			"application/x [b.exe] \"x\\r\\n\"\n",
		},
		"two types":    {"Content-Type: text/html\nContent-Type: application/x; name=evil.exe\n\nx", "text/html [evil.exe] \"x\" !more than one Content-Type\n"},
		"no boundary":  {"Content-Type: multipart/mixed\n\n--x\n", "multipart/mixed \"--x\\r\\n\" !multipart without a possible boundary\n"},
		"empty parts":  {"Content-Type: multipart/mixed; boundary=a\n\n--a\n--a\n\n--a--", "multipart/mixed\n text/plain \"\" !a header section that does not end\n text/plain \"\"\n"},
		"space before": {"Content-Type : text/html\n\nx", "text/html \"x\"\n"},
	} {
		if got := shape(t, parsed(t, crlf(c.in))); got != c.want {
			t.Errorf("%s: got\n%swant\n%s", name, got, c.want)
		}
	}
	if got := shape(t, parsed(t, "Content-Type: multipart/mixed; boundary=a\n\n--a\n\nx\n--a--\n")); got != "multipart/mixed\n text/plain \"x\"\n" {
		t.Errorf("lone LF: %s", got)
	}
}
