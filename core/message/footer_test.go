package message

import (
	"bytes"
	"io"
	"strings"
	"testing"
)

// footed is a message with a footer, and how it was done. It checks that ropes
// read the same in any pieces.
func footed(t testing.TB, f Footer, in string) (out, done string) {
	t.Helper()
	body := Bytes(in)
	start, err := ContentStart(body)
	if err != nil {
		t.Fatal(err)
	}
	n, ok := HeaderLen(body)
	if !ok || start == 0 {
		n = int(max(0, start))
	}
	h := ParseHeader(body[:n])
	content, done, err := f.Add(h, body, start)
	if err != nil {
		t.Fatal(err)
	}
	if content == nil {
		return in, done
	}
	all := readBody(t, content)
	one := make([]byte, 1)
	for i := range all {
		if _, err := content.ReadAt(one, int64(i)); err != nil && err != io.EOF || one[0] != all[i] {
			t.Fatalf("byte %d is %q %v, not %q", i, one, err, all[i])
		}
	}
	return string(h.Section()) + string(all), done
}

func readBody(t testing.TB, b Body) []byte {
	t.Helper()
	all, err := io.ReadAll(NewReader(b))
	if err != nil || int64(len(all)) != b.Size() {
		t.Fatalf("%d of %d bytes: %v", len(all), b.Size(), err)
	}
	return all
}

func TestFooter(t *testing.T) {
	ascii, wide := Footer{Text: "-- \nbye"}, Footer{Text: "Grüße"}
	for name, c := range map[string]struct {
		f              Footer
		in, want, done string
	}{
		"plain": {ascii, "Subject: x\n\nhello\n", "Subject: x\n\nhello\n\n-- \nbye\n", "in the text"},
		"top":   {Footer{Text: "EXTERNAL", Top: true}, "Subject: x\n\nhello\n", "Subject: x\n\nEXTERNAL\n\nhello\n", "in the text"},
		"ascii becomes utf-8": {
			wide, "Content-Type: text/plain; charset=us-ascii; format=fixed\n\na=b\n",
			"Content-Type: text/plain; charset=utf-8; format=\"fixed\"\nContent-Transfer-Encoding: quoted-printable\nMIME-Version: 1.0\n\na=3Db\n\nGr=C3=BC=C3=9Fe\n", "in the text",
		},
		"8bit stays 8bit": {
			wide, "Content-Type: text/plain; charset=iso-8859-1\nContent-Transfer-Encoding: 8bit\n\n\xfc\n",
			"Content-Type: text/plain; charset=iso-8859-1\nContent-Transfer-Encoding: 8bit\n\n\xfc\n\nGr\xfc\xdfe\n", "in the text",
		},
		"quoted-printable": {
			wide, "Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n\nx=3D=\ny\n",
			"Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n\nx=3Dy\n\nGr=C3=BC=C3=9Fe\n", "in the text",
		},
		"base64": {
			ascii, "Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: base64\n\naGVsbG8NCg==\n",
			"Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: base64\n\naGVsbG8NCg0KLS0gDQpieWUNCg==\n", "in the text",
		},
		"html": {
			Footer{Text: "a<b\nü"},
			"Content-Type: text/html; charset=utf-8\n\n<html><body class=\">\">hi<!-- </body> --></body></html>\n",
			"Content-Type: text/html; charset=utf-8\n\n<html><body class=\">\">hi<!-- </body> --><div>a&lt;b<br>\n&#252;</div></body></html>\n", "in the text",
		},
		"html top": {
			Footer{HTML: "<p>new</p>", Top: true},
			"Content-Type: text/html\n\n<html><head></head><body>hi",
			"Content-Type: text/html\n\n<html><head></head><body><p>new</p>hi", "in the text",
		},
		"alternative": {
			Footer{Text: "T", HTML: "<i>H</i>"},
			"Content-Type: multipart/alternative; boundary=b\n\n--b\n\nhello\n--b\nContent-Type: text/html\n\n<p>hello\n--b--\n",
			"Content-Type: multipart/alternative; boundary=b\n\n--b\n\nhello\n\nT\n\n--b\nContent-Type: text/html\n\n<p>hello<i>H</i>\n--b--\n", "in 2 texts",
		},
		"first of mixed": {
			ascii, "Content-Type: multipart/mixed; boundary=b\n\n--b\n\nhello\n--b\nContent-Type: text/plain; name=x.txt\n\nfile\n--b--\n",
			"Content-Type: multipart/mixed; boundary=b\n\n--b\n\nhello\n\n-- \nbye\n\n--b\nContent-Type: text/plain; name=x.txt\n\nfile\n--b--\n", "in the text",
		},
		"part of mixed": {
			ascii, "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: image/png\n\nx\n--b--\n",
			"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: image/png\n\nx\n--b\nContent-Type: text/plain; charset=us-ascii\nContent-Transfer-Encoding: 7bit\nContent-Disposition: inline\n\n-- \nbye\n\n--b--\n", "as a part",
		},
		"signed in mixed, top": {
			Footer{Text: "N", Top: true},
			"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: multipart/signed; boundary=s\n\n--s\n\nx\n--s--\n--b--\n",
			"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/plain; charset=us-ascii\nContent-Transfer-Encoding: 7bit\nContent-Disposition: inline\n\nN\n--b\nContent-Type: multipart/signed; boundary=s\n\n--s\n\nx\n--s--\n--b--\n", "as a part",
		},
		"signed":    {ascii, "Content-Type: multipart/signed; boundary=s\n\n--s\n\nx\n--s--\n", "=", "left alone: signed"},
		"encrypted": {ascii, "Content-Type: multipart/encrypted; boundary=s\n\n--s\n\nx\n--s--\n", "=", "left alone: encrypted"},
		"smime":     {ascii, "Content-Type: application/pkcs7-mime\n\nx\n", "=", "left alone: signed or encrypted (S/MIME)"},
		"pgp":       {ascii, "\n-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nx\n", "=", "left alone: signed or encrypted (PGP)"},
		"report":    {ascii, "Content-Type: multipart/report; boundary=b\n\n--b\n\nx\n--b--\n", "=", "left alone: for machines: multipart/report"},
		"flowed": {
			Footer{Text: "a \n> b\n-- \nc"},
			"Content-Type: text/plain; format=flowed\n\nhello \n",
			"Content-Type: text/plain; format=flowed\n\nhello \n\na\n > b\n-- \nc\n", "in the text",
		},
		"dkim": {ascii, "DKIM-Signature: v=1; d=example.com; s=x\n\nhello\n", "DKIM-Signature: v=1; d=example.com; s=x\n\nhello\n\n-- \nbye\n", "in the text; it breaks the DKIM signature of example.com"},
	} {
		got, done := footed(t, c.f, crlf(c.in))
		if c.want == "=" {
			c.want = c.in
		}
		if got != crlf(c.want) || done != c.done {
			t.Errorf("%s: %s\n%q\nwant\n%q", name, done, got, crlf(c.want))
		}
	}
}

func TestFooterWraps(t *testing.T) {
	for _, in := range []string{
		"Content-Type: application/pdf; name=x.pdf\nContent-Transfer-Encoding: base64\nSubject: x\n\naGVsbG8=\n",
		"Content-Type: text/plain; charset=iso-2022-jp\n\n\x1b$B$3\x1b(B\n",
		"Content-Type: text/plain; charset=iso-8859-2\nContent-Transfer-Encoding: 8bit\n\n\xb1\n",
	} {
		for _, top := range []bool{false, true} {
			got, done := footed(t, Footer{Text: "你好", Top: top}, crlf(in))
			m := parsed(t, got)
			if done != "as a part of a new multipart" || m.Faulty() || len(m.Root.Children) != 2 || m.Root.Type != "multipart/mixed" {
				t.Fatalf("%s\n%s", done, got)
			}
			i := 0
			if top {
				i = 1
			}
			was := parsed(t, crlf(in)).Root
			kept, foot := m.Root.Children[i], m.Root.Children[1-i]
			if kept.Type != was.Type || kept.Name() != was.Name() || !bytes.Equal(contentOf(t, kept), contentOf(t, was)) {
				t.Errorf("%s changed", was.Type)
			}
			if s := textOf(t, foot); strings.TrimSpace(s) != "你好" {
				t.Errorf("the footer reads %q", s)
			}
		}
	}
}

func contentOf(t testing.TB, p *Part) []byte {
	t.Helper()
	b, err := io.ReadAll(p.Reader())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func textOf(t testing.TB, p *Part) string {
	t.Helper()
	b, err := io.ReadAll(p.Text())
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestReplaceText(t *testing.T) {
	for _, c := range []struct{ head, text, kind, want string }{
		{"Subject: x\n", "a\nb", "text/plain", "Subject: x\n\na\nb\n"},
		{"Subject: x\nContent-Type: multipart/mixed; boundary=b\nContent-Transfer-Encoding: 8bit\nMIME-Version: 1.0\n", "ü", "text/plain", "Subject: x\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n\n=C3=BC\n"},
		{"Subject: x\n", "<p>", "text/html", "Subject: x\nContent-Type: text/html; charset=us-ascii\nContent-Transfer-Encoding: 7bit\nMIME-Version: 1.0\n\n<p>\n"},
		{"Content-Type: text/x\n", "raw\r\n", "", "Content-Type: text/x\n\nraw\n"},
	} {
		h := ParseHeader([]byte(crlf(c.head)))
		got, err := ReplaceText(h, c.text, c.kind)
		if err != nil || string(h.Section())+string(got) != crlf(c.want) {
			t.Errorf("%q %v, want %q", string(h.Section())+string(got), err, crlf(c.want))
		}
	}
	for _, c := range [][2]string{{"a\x00", ""}, {strings.Repeat("x", 1000), ""}, {"x", "image/png"}, {"x", "text/a b"}} {
		if _, err := ReplaceText(&Header{}, c[0], c[1]); err == nil {
			t.Errorf("%q was taken", c)
		}
	}
}

func TestFooterBounds(t *testing.T) {
	for _, f := range []Footer{{}, {Text: " \n"}, {Text: strings.Repeat("x", maxFooter+1)}, {Text: "a\x00"}} {
		if _, _, err := f.Add(&Header{}, Bytes(nil), 0); err == nil {
			t.Errorf("a footer of %d bytes was taken", len(f.Text))
		}
	}
}
