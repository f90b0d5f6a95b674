package remote

import (
	"bytes"
	"encoding/base64"
	"io"
	"mime/quotedprintable"
	"net"
	netmail "net/mail"
	"strconv"
	"strings"
	"testing"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/send"
)

// decoded is the content of a message of one part.
func decoded(t *testing.T, data []byte) string {
	t.Helper()
	m, err := netmail.ReadMessage(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	var r io.Reader = m.Body
	switch m.Header.Get("Content-Transfer-Encoding") {
	case "base64":
		r = base64.NewDecoder(base64.StdEncoding, r)
	case "quoted-printable":
		r = quotedprintable.NewReader(r)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// pipeOf is a connection on which something was said, and the end.
func pipeOf(said string) net.Conn {
	a, b := net.Pipe()
	go func() {
		_, _ = b.Write([]byte(said))
		_ = b.Close()
	}()
	return a
}

const multi = "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"b 1\"\r\nContent-Transfer-Encoding: 8bit\r\n\r\npreamble\r\n" +
	"--b 1\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\nX: y\r\n\r\nGrüße, die lang genug sind\r\n\r\n" +
	"--b 1 \r\n\r\nplain\r\n" +
	"--b 1\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: 8BIT\r\n\r\nSubject: inner\r\n\r\näußere Form, lang genug für Text\r\n" +
	"--b 1\r\nContent-Type: image/x\r\n\r\n\xff\xfe\r\n\xfd\r\n--b 1--\r\nepilogue\r\n"

// RFC 6152 section 3, RFC 2045 section 6, RFC 1428.
func TestDowngrade(t *testing.T) {
	const text = "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
	for _, test := range []struct{ name, in, want string }{ // want beginning with "!": why not
		{"text", text + "Content-Transfer-Encoding: 8bit\r\n\r\nGrüße aus der Ferne \r\n.\r\n", text + "Content-Transfer-Encoding: quoted-printable\r\n\r\nGr=C3=BC=C3=9Fe aus der Ferne=20\r\n.\r\n"},
		{"text without a label", text + "\r\nGrüße aus der Ferne\r\n", text + "Content-Transfer-Encoding: quoted-printable\r\n\r\nGr=C3=BC=C3=9Fe aus der Ferne\r\n"},
		{"mostly not ASCII", text + "Content-Transfer-Encoding: 8bit\r\n\r\nпривет\r\n", text + "Content-Transfer-Encoding: base64\r\n\r\n0L/RgNC40LLQtdGCDQo=\r\n"},
		{"no MIME", "Subject: x\r\n\r\nGr\xfc\xdfe aus der Ferne\r\n", "Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=unknown-8bit\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nGr=FC=DFe aus der Ferne\r\n"},
		{"folded label", text + "Content-Transfer-Encoding:\r\n 8bit (really)\r\nX: y\r\n\r\nein Grüß Gott\r\n", text + "Content-Transfer-Encoding: quoted-printable\r\nX: y\r\n\r\nein Gr=C3=BC=C3=9F Gott\r\n"},
		{"parts", multi, "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"b 1\"\r\nContent-Transfer-Encoding: 7bit\r\n\r\npreamble\r\n" +
			"--b 1\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\nX: y\r\n\r\nGr=C3=BC=C3=9Fe, die lang genug sind\r\n\r\n" +
			"--b 1 \r\n\r\nplain\r\n" +
			"--b 1\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: 7bit\r\n\r\nSubject: inner\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=unknown-8bit\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=C3=A4u=C3=9Fere Form, lang genug f=C3=BCr Text\r\n" +
			"--b 1\r\nContent-Type: image/x\r\nContent-Transfer-Encoding: base64\r\n\r\n//4NCv0=\r\n--b 1--\r\nepilogue\r\n"},
		{"only the header", "Subject: ä\r\n\r\nx\r\n", "Subject: ä\r\n\r\nx\r\n"},
		{"header of a part", "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nX: ä\r\n\r\nx\r\n--b--\r\n", "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nX: ä\r\n\r\nx\r\n--b--\r\n"},
		{"signed", "Content-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\nä\r\n--b\r\n\r\nsig\r\n--b--\r\n", "!" + errSigned.Error()},
		{"deep in signed", "Content-Type: multipart/signed; boundary=b\r\n\r\n--b\r\nContent-Type: message/rfc822\r\n\r\nX: y\r\n\r\nä\r\n--b--\r\n", "!" + errSigned.Error()},
		{
			"beside signed", "Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\nContent-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n--a\r\n\r\nein ä dabei\r\n--a--\r\n",
			"Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\nContent-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n--a\r\nContent-Type: text/plain; charset=unknown-8bit\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nein =C3=A4 dabei\r\n--a--\r\n",
		},
		{"encoded and not clean", text + "Content-Transfer-Encoding: base64\r\n\r\nä\r\n", "!" + errEncoded.Error()},
		{"unknown label", text + "Content-Transfer-Encoding: x-uuencode\r\n\r\nä\r\n", "!" + errEncoded.Error()},
		{"two labels", text + "Content-Transfer-Encoding: 8bit\r\nContent-Transfer-Encoding: 7bit\r\n\r\nä\r\n", "!" + errOdd.Error()},
		{"preamble", "Content-Type: multipart/mixed; boundary=b\r\n\r\nä\r\n--b\r\n\r\nx\r\n--b--\r\n", "!" + errOdd.Error()},
		{"status", "Content-Type: message/delivery-status\r\n\r\nX: ä\r\n", "!a part of type message/delivery-status can't be encoded"},
		{"no boundary", "Content-Type: multipart/mixed\r\n\r\nä\r\n", "!" + errOdd.Error()},
		{"LF in front of a delimiter", "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nein ä dabei\n--b\r\n\r\nx\r\n--b--\r\n", "!" + errOdd.Error()},
		{"never ended", "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nein ä ohne Ende\r\n", "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain; charset=unknown-8bit\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nein =C3=A4 ohne Ende\r\n"},
		{"too many parts", "Content-Type: multipart/mixed; boundary=b\r\n\r\n" + strings.Repeat("--b\r\n\r\nä\r\n", maxEntities+1), "!" + errComplex.Error()},
		{"too deep", strings.Repeat("Content-Type: message/rfc822\r\n\r\n", maxDepth+2) + "\r\nä\r\n", "!" + errComplex.Error()},
		{"deep, 7-bit", strings.Repeat("Content-Type: message/rfc822\r\n\r\n", maxDepth+2) + "\r\nx\r\n", strings.Repeat("Content-Type: message/rfc822\r\n\r\n", maxDepth+2) + "\r\nx\r\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSink(t, func(s *sink) { s.ehlo = []string{"SIZE"} })
			j := jobTo(t, s, test.in)
			o := outcomes(t, j, newClient(t, nil).Deliver(t.Context(), j))[0]
			if why, no := strings.CutPrefix(test.want, "!"); no {
				if o.Result != send.Bounced || o.Reply.Status() != "5.6.3" || !strings.HasSuffix(o.Reply.Text, why) || len(s.got()) > 0 {
					t.Errorf("%+v; want %s", o, why)
				}
				return
			}
			if o.Result != send.Delivered {
				t.Fatalf("%+v", o)
			}
			m := s.got()[0]
			if string(m.data) != test.want {
				t.Errorf("got\n%s\nwant\n%s", m.data, test.want)
			}
			if size := " SIZE=" + strconv.Itoa(len(test.want)); !strings.HasSuffix(m.from, size) || strings.Contains(m.from, "BODY") {
				t.Errorf("%s, want%s", m.from, size)
			}
		})
	}
}

// What is taken apart in pieces is the same as at once, and a rewritten message
// is 7-bit lines with the same content around.
func FuzzDowngrade(f *testing.F) {
	f.Add([]byte(multi))
	f.Add([]byte("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n\xff\r\n--b--"))
	f.Add([]byte("Content-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n\r\nSubject: x\r\n\r\n\xff"))
	f.Add([]byte("Content-Type: a/b\r\nContent-Transfer-Encoding: binary\r\n\r\n\x00\r\n\xff\n\r"))
	f.Fuzz(func(t *testing.T, in []byte) {
		body := message.Bytes(in)
		s, err := takeApart(body)
		if err != nil {
			return
		}
		last := int64(0)
		for _, e := range s.entities {
			if e.headTo < last || e.bodyFrom < e.headTo || e.bodyTo < e.bodyFrom || e.bodyTo > body.Size() {
				t.Fatalf("%+v of %d bytes: %q", e, body.Size(), in)
			}
			last = e.bodyFrom
		}
		for _, seven := range []bool{true, false} {
			p, err := downgrade(s, true, seven)
			if err != nil || p == nil {
				continue
			}
			var out bytes.Buffer
			if err := p.render(body, &out); err != nil {
				t.Fatal(err)
			}
			again, err := takeApart(message.Bytes(out.Bytes()))
			if err != nil {
				continue // a field more than may be
			}
			if len(again.entities) != len(s.entities) {
				t.Fatalf("%d parts became %d:\n%q\n%q", len(s.entities), len(again.entities), in, out.Bytes())
			}
			for i, e := range again.entities {
				if seven && e.eight > 0 || e.binary {
					t.Fatalf("part %d is still unfit: %+v\n%q\n%q", i, e, in, out.Bytes())
				}
			}
		}
	})
}
