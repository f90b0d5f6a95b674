package message

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"
)

// samples are the messages in testdata.
func samples(tb testing.TB) [][]byte {
	tb.Helper()
	files, _ := filepath.Glob("testdata/mime/*.eml")
	var all [][]byte
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			tb.Fatal(err)
		}
		all = append(all, []byte(wireLines(string(b))))
	}
	return all
}

func FuzzMIME(f *testing.F) {
	for _, b := range samples(f) {
		f.Add(b)
	}
	f.Add([]byte("Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\nContent-Type: message/rfc822\r\n\r\n--a--"))
	f.Add([]byte(nestedIn("base64", nestedIn("quoted-printable", "\r\nbegin 644 a\r\n#86)C\r\nend\r\n"))))
	f.Add([]byte("\r\nbegin 644 a\r\n#86)C\r\nend\r\nbegin-base64 644 b\r\nYQ==\r\n====\r\nbegin 644 c\r\n \r\n"))
	f.Add([]byte("Content-Transfer-Encoding: x-uuencode\r\n\r\nbegin 644 a\r\n#86)C\r\nend\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		checkMail(t, []byte(wireLines(string(b))))
		m, _ := ParseMIME(Bytes(b))
		slow, _ := ParseMIME(dripping(b))
		if shape(t, m) != shape(t, slow) {
			t.Fatalf("in pieces it is another structure:\n%s\n%s", shape(t, m), shape(t, slow))
		}
	})
}

// dripping is a body that gives at most seven bytes at a time.
type dripping []byte

func (d dripping) Size() int64 { return int64(len(d)) }

func (d dripping) ReadAt(p []byte, off int64) (int, error) {
	if len(p) > 7 && off+7 < int64(len(d)) {
		return copy(p[:7], d[off:]), nil
	}
	return Bytes(d).ReadAt(p, off)
}

func FuzzParseContent(f *testing.F) {
	for _, s := range []string{
		`text/plain; charset="utf-8"; name*0*=utf-8''a%2e; name*1=exe`, `a/b; name="x\"y" junk; =; ;; n`, `multipart/mixed boundary=x`, `a/b (c (d) e); name="=?utf-8?q?x?="`, `; filename*='''%zz; filename*9999=x`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		_, params, _ := ParseContent(s)
		size := 0
		for _, p := range params {
			for _, v := range append(p.Others, p.Value) {
				size += len(v)
				if !utf8.ValidString(v) {
					t.Fatalf("%q is no UTF-8", v)
				}
			}
		}
		if len(params) > maxParams || size > 16*len(s)+16 {
			t.Fatalf("%d parameters, %d octets of %d", len(params), size, len(s))
		}
	})
}

func FuzzWords(f *testing.F) {
	for _, s := range []string{"=?utf-8?q?Gr=C3=BC?= x", "=?utf-8?b?8J+M?= =?utf-8?b?jQ==?=", "=?x?q?=?x?q?", "=?iso-2022-jp?B?GyRCJDMbKEI=?=", "Grüße, 你好 🜂 and more", "=?utf-7?q?+2D3eCg-?="} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if d := DecodeWords(s); !utf8.ValidString(d) || len(d) > 12*len(s)+12 {
			t.Fatalf("%q", d)
		}
		h := &Header{}
		if h.Append("Subject", s) != nil {
			return
		}
		for line := range strings.Lines(string(h.Bytes())) {
			if strings.Contains(line, "=?utf-8?") && !strings.Contains(s, "=?") && len(line) > maxWordLine+2 {
				t.Fatalf("a line of %d: %q", len(line), line)
			}
		}
		if strings.Contains(s, "=?") || s != strings.TrimSpace(s) || len(s) > 900 || strings.ContainsAny(s, "\t") {
			return
		}
		if got, _ := h.Get("Subject"); got != strings.ToValidUTF8(s, "\uFFFD") {
			t.Fatalf("%q came back as %q, by way of %q", s, got, h.Bytes())
		}
	})
}

func FuzzURLs(f *testing.F) {
	f.Add("see hxxp://a[.]b/?u=http%3A%2F%2Fc and www.d.example", false)
	f.Add("<a href='http&#58;//x.example'><img src=//y", true)
	f.Fuzz(func(t *testing.T, s string, isHTML bool) {
		head := "Content-Type: text/plain\r\n\r\n"
		if isHTML {
			head = "Content-Type: text/html\r\n\r\n"
		}
		m, err := ParseMIME(Bytes(head + s))
		if err != nil {
			t.Fatal(err)
		}
		list, _, err := m.URLs()
		if err != nil || len(list) > maxURLs {
			t.Fatalf("%d, %v", len(list), err)
		}
		for _, u := range list {
			if len(u.Text) > maxURL || strings.ContainsAny(u.Host, " /@\r\n\x00") || u.Host == "" && !strings.HasPrefix(u.Text, "mailto:") {
				t.Fatalf("%q at %q", u.Text, u.Host)
			}
		}
	})
}

func FuzzTransfer(f *testing.F) {
	f.Add([]byte("a=3D=\r\n b =\t\r\nc=ZZ=4"))
	f.Add([]byte("aGVs bG8=aGk=!"))
	f.Add([]byte("begin 644 a\r\n#86)C\r\n`\r\nend\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, encoding := range []string{"base64", "quoted-printable", uuencode} {
			whole, err := io.ReadAll(decodeTransfer(encoding, bytes.NewReader(b)))
			if err != nil || encoding != uuencode && len(whole) > len(b)+2 || len(whole) > 63*len(b) {
				t.Fatalf("%s: %d of %d, %v", encoding, len(whole), len(b), err)
			}
			slow, _ := io.ReadAll(decodeTransfer(encoding, io.NewSectionReader(dripping(b), 0, int64(len(b)))))
			if !bytes.Equal(whole, slow) {
				t.Fatalf("%s in pieces: %q, not %q", encoding, slow, whole)
			}
		}
		q := appendQuoted(nil, b)
		for line := range bytes.Lines(q) {
			if len(bytes.TrimRight(line, "\r\n")) > 76 {
				t.Fatalf("a line of %d", len(line))
			}
		}
		if back, _ := io.ReadAll(&qpReader{r: bytes.NewReader(q)}); !bytes.Equal(back, b) {
			t.Fatalf("%q came back as %q by way of %q", b, back, q)
		}
		if back, _ := io.ReadAll(&base64Reader{r: bytes.NewReader(appendBase64(nil, b))}); !bytes.Equal(back, b) {
			t.Fatalf("%q came back as %q", b, back)
		}
	})
}

// Attacks on the bounds: each ends soon, and says that it met one.
func TestMIMEBounds(t *testing.T) {
	var deep, wide strings.Builder
	for i := range 100_000 {
		fmt.Fprintf(&deep, "Content-Type: message/rfc822\r\n\r\n")
		fmt.Fprintf(&wide, "--a\r\n\r\n%d\r\n", i)
	}
	nested := ""
	for i := range 200 {
		nested += fmt.Sprintf("Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n", i, i)
	}
	cyclic := strings.Repeat("Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\n", 50_000)
	long := "Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\nX: " + strings.Repeat("x", 200<<10) + "\r\nContent-Type: application/x; name=x.exe\r\n\r\nx\r\n--a--\r\n"
	dashes := "Content-Type: multipart/mixed; boundary=" + strings.Repeat("-", maxBoundary) + "\r\n\r\n" + strings.Repeat(strings.Repeat("-", 901)+"\r\n", 5000)
	for name, c := range map[string]struct{ in, want string }{
		"nested messages": {deep.String(), "depth"},
		"nested":          {nested, "depth"},
		"cyclic":          {cyclic, "depth"},
		"many parts":      {"Content-Type: multipart/mixed; boundary=a\r\n\r\n" + wide.String(), "parts"},
		"long header":     {long, "header"},
		"dashes":          {dashes, ""},
		"parameters":      {"Content-Type: a/b" + strings.Repeat("; name*1=x", 100_000) + "\r\n\r\n", ""},
		"comments":        {"Content-Type: a/b" + strings.Repeat("(", 500_000) + "\r\n\r\n", ""},
		"words":           {"Content-Description: " + strings.Repeat("=?a?q?", 100_000) + "\r\n\r\n", ""},
	} {
		m := parsed(t, c.in)
		if m.Truncated != c.want || m.Len() > maxMIMEParts {
			t.Errorf("%s: truncated %q, %d parts", name, m.Truncated, m.Len())
		}
	}
	for _, s := range []string{strings.Repeat("=?a?q?", 1<<16), strings.Repeat("=?utf-8?q?x?= ", 1<<16), strings.Repeat("=?zz?q?", 1<<16) + "?="} {
		DecodeWords(s)
	}
	brackets := "http://a.example/" + strings.Repeat(")", 4000) + " "
	m := parsed(t, "\r\n"+strings.Repeat(brackets, 1000))
	if _, _, err := m.URLs(); err != nil {
		t.Error(err)
	}
}

func benchmarkMail(size int) []byte {
	var b bytes.Buffer
	b.WriteString("Subject: x\r\nContent-Type: multipart/mixed; boundary=frontier\r\n\r\n--frontier\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n")
	b.Write(appendQuoted(nil, []byte(strings.Repeat("<p>Grüße <a href=\"http://example.com/a?b=c\">hier</a> und dort.</p>\r\n", 40))))
	b.WriteString("\r\n--frontier\r\nContent-Type: application/pdf; name=x.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n")
	b.Write(appendBase64(nil, bytes.Repeat([]byte("0123456789abcdef"), size/22)))
	b.WriteString("--frontier--\r\n")
	return b.Bytes()
}

func BenchmarkParseMIME(b *testing.B) {
	for _, size := range []int{4 << 10, 4 << 20} {
		mail := Bytes(benchmarkMail(size))
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			b.SetBytes(mail.Size())
			b.ReportAllocs()
			for b.Loop() {
				if m, err := ParseMIME(mail); err != nil || m.Len() != 3 {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	m := parsed(b, string(benchmarkMail(4<<20)))
	for _, p := range m.Root.Children {
		b.Run(p.Encoding, func(b *testing.B) {
			b.SetBytes(p.End - p.From)
			for b.Loop() {
				if _, err := io.Copy(io.Discard, p.Reader()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkURLs(b *testing.B) {
	mail := benchmarkMail(4 << 10)
	m := parsed(b, string(mail))
	b.SetBytes(m.Root.Children[0].End - m.Root.Children[0].From)
	for b.Loop() {
		if list, _, err := m.URLs(); err != nil || len(list) != 1 {
			b.Fatal(err)
		}
	}
}

func BenchmarkFooter(b *testing.B) {
	mail := Bytes(benchmarkMail(4 << 10))
	start, _ := ContentStart(mail)
	h := ParseHeader(mail[:start-2])
	b.SetBytes(mail.Size())
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := (Footer{Text: "bye"}).Add(h.Clone(), mail, start); err != nil {
			b.Fatal(err)
		}
	}
}
