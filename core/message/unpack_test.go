package message

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// uuEncoded is b in lines of 45 octets, with blanks or with "`" for zero.
func uuEncoded(b []byte, zero byte) string {
	var out strings.Builder
	digit := func(v byte) {
		if v &= 63; v == 0 {
			out.WriteByte(zero)
		} else {
			out.WriteByte(v + ' ')
		}
	}
	for len(b) > 0 {
		n := min(45, len(b))
		digit(byte(n))
		for i := 0; i < n; i += 3 {
			var c [3]byte
			copy(c[:], b[i:n])
			digit(c[0] >> 2)
			digit(c[0]<<4 | c[1]>>4)
			digit(c[1]<<2 | c[2]>>6)
			digit(c[2])
		}
		out.WriteString("\r\n")
		b = b[n:]
	}
	return out.String()
}

// inside is what a walk gives: type, name, content of leaves.
func inside(t testing.TB, m *MIME) string {
	t.Helper()
	var out []string
	for p := range m.Parts() {
		text := p.Path + " " + p.Type
		if p.Name() != "" {
			text += " [" + p.Name() + "]"
		}
		if len(p.Children) == 0 {
			b, err := io.ReadAll(p.Reader())
			if err != nil {
				t.Fatal(err)
			}
			text += fmt.Sprintf(" %.40q", b)
		}
		if p.Fault != "" {
			text += " !" + p.Fault
		}
		out = append(out, text)
	}
	if m.Truncated != "" {
		out = append(out, "truncated: "+m.Truncated)
	}
	return strings.Join(out, "\n")
}

// nestedIn is a part that holds a message in an encoding.
func nestedIn(encoding, mail string) string {
	head := "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: " + encoding + "\r\n\r\n"
	if encoding == "base64" {
		return head + string(appendBase64(nil, []byte(mail)))
	}
	return head + string(appendQuoted(nil, []byte(mail)))
}

func TestEncodedMessagesAreOpened(t *testing.T) {
	inner := crlf("Subject: in\nContent-Type: multipart/mixed; boundary=c\n\n--c\nContent-Type: text/html\n\n<p>x=y\n--c\nContent-Type: application/x; name=a.exe\nContent-Transfer-Encoding: base64\n\nTVo=\n--c--\n")
	for name, c := range map[string]struct{ in, want string }{
		"base64": {
			nestedIn("base64", inner),
			"1 message/rfc822 !a nested message in base64\n1.1 multipart/mixed\n1.1.1 text/html \"<p>x=y\"\n1.1.2 application/x [a.exe] \"MZ\"",
		},
		"quoted-printable": {
			nestedIn("quoted-printable", inner),
			"1 message/rfc822 !a nested message in quoted-printable\n1.1 multipart/mixed\n1.1.1 text/html \"<p>x=y\"\n1.1.2 application/x [a.exe] \"MZ\"",
		},
		"twice": {
			nestedIn("base64", nestedIn("quoted-printable", "\r\nhello")),
			"1 message/rfc822 !a nested message in base64\n1.1 message/rfc822 !a nested message in quoted-printable\n1.1.1 text/plain \"hello\"",
		},
		"within others": {
			"Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\n" + nestedIn("base64", "\r\none") + "\r\n--a\r\n\r\ntwo\r\n--a--\r\n",
			"1 multipart/mixed\n1.1 message/rfc822 !a nested message in base64\n1.1.1 text/plain \"one\"\n1.2 text/plain \"two\"",
		},
		"global": {
			strings.Replace(nestedIn("base64", "\r\nGrüße"), "rfc822", "global", 1),
			"1 message/global\n1.1 text/plain \"Grüße\"",
		},
		"empty": {nestedIn("base64", ""), "1 message/rfc822 !a nested message in base64\n1.1 text/plain \"\""},
	} {
		m := parsed(t, c.in)
		if got := inside(t, m); got != c.want {
			t.Errorf("%s: got\n%s\nwant\n%s", name, got, c.want)
		}
		decoded := 0
		for p := range m.Parts() {
			if p.Decoded {
				decoded++
			}
		}
		if want := strings.Count(c.want, "\n1.1"); name != "within others" && decoded != want || name == "within others" && decoded != 1 {
			t.Errorf("%s: %d parts stand in decoded content", name, decoded)
		}
	}
}

func TestUuencodedFilesAreFound(t *testing.T) {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	data, grave := uuEncoded(all, ' '), uuEncoded(all, '`')
	stripped := ""
	for line := range strings.Lines(data) {
		stripped += strings.TrimRight(line, " \r\n") + "\r\n"
	}
	text := "Subject: x\r\n\r\nSee the file.\r\n\r\nbegin 644 my file.exe\r\n%s`\r\nend\r\nBye.\r\n"
	for name, in := range map[string]string{
		"blanks":           fmt.Sprintf(text, data),
		"graves":           fmt.Sprintf(text, grave),
		"blanks lost":      fmt.Sprintf(text, stripped),
		"in base64":        "Content-Transfer-Encoding: base64\r\n\r\n" + string(appendBase64(nil, []byte(strings.SplitN(fmt.Sprintf(text, data), "\r\n\r\n", 2)[1]))),
		"quoted-printable": "Content-Transfer-Encoding: quoted-printable\r\n\r\n" + string(appendQuoted(nil, []byte(strings.SplitN(fmt.Sprintf(text, data), "\r\n\r\n", 2)[1]))),
		"base64 form":      fmt.Sprintf(strings.NewReplacer("begin 644", "begin-base64 0644", "`\r\nend", "====").Replace(text), appendBase64(nil, all)),
	} {
		m := parsed(t, in)
		if m.Len() != 2 || m.At(1).Name() != "my file.exe" || !m.At(1).IsAttachment() || m.At(1).Path != "1.1" || m.Root.IsAttachment() || len(m.Root.Children) > 0 || m.Faulty() {
			t.Errorf("%s: %s", name, inside(t, m))
			continue
		}
		if got, err := io.ReadAll(m.At(1).Reader()); err != nil || !bytes.Equal(got, all) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		shown, err := io.ReadAll(m.Root.Text())
		if err != nil || !bytes.Contains(shown, []byte("Bye.")) {
			t.Errorf("%s: the text is %q, %v", name, shown, err)
		}
	}
	for name, c := range map[string]struct{ in, want string }{
		"two":                    {"\r\nbegin 644 a\r\n#86)C\r\nend\r\nbegin 600 b\r\n#9&5F\r\n`\r\nend\r\n", "1.1 application/octet-stream [a] \"abc\"\n1.2 application/octet-stream [b] \"def\""},
		"unfinished":             {"\r\nbegin 644 a\r\n#86)C\r\n", "1.1 application/octet-stream [a] \"abc\" !a uuencoded file that does not end"},
		"lone LF":                {"\nbegin 644 a\n#86)C\n \nend\n", "1.1 application/octet-stream [a] \"abc\""},
		"after one that is none": {"\r\nbegin 644 x\r\nbegin 644 a\r\n#86)C\r\n`\r\nend\r\n", "1.1 application/octet-stream [a] \"abc\""},
		"prose":                  {"\r\nbegin 644 things at once\r\nand you will see that all of this is no file\r\nend\r\n", ""},
		"no mode":                {"\r\nbegin the day\r\n#86)C\r\nend\r\n", ""},
		"in HTML":                {"Content-Type: text/html\r\n\r\nbegin 644 a\r\n#86)C\r\nend\r\n", ""},
	} {
		m := parsed(t, c.in)
		got := ""
		if _, rest, ok := strings.Cut(inside(t, m), "\n"); ok {
			got = rest
		}
		if got != c.want {
			t.Errorf("%s: got\n%s\nwant\n%s", name, got, c.want)
		}
	}
	// A part of that encoding, with or without its first line, words before it or not.
	head := "Content-Type: application/x; name=a\r\nContent-Transfer-Encoding: x-uue\r\n\r\n"
	for _, in := range []string{"begin 644 a\r\n#86)C\r\n`\r\nend\r\n", "Here:\r\n\r\nbegin 644 a\r\n#86)C\r\nend\r\nBye\r\n"} {
		if got := inside(t, parsed(t, head+in)); got != "1 application/x [a] \"abc\" !unknown Content-Transfer-Encoding" {
			t.Error(got)
		}
	}
	if b, err := io.ReadAll(newUUReader(iotest.OneByteReader(strings.NewReader(grave)), true)); err != nil || !bytes.Equal(b, all) {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := io.ReadAll(newUUReader(iotest.ErrReader(io.ErrClosedPipe), true)); err != io.ErrClosedPipe {
		t.Error(err)
	}
}

// What is opened keeps to the bounds: depth, count, octets.
func TestUnpackBounds(t *testing.T) {
	deep := "\r\nthe core"
	for range 60 {
		deep = nestedIn("quoted-printable", deep)
	}
	bomb := nestedIn("base64", "\r\n"+strings.Repeat("x", maxDecoded))
	var files, messages strings.Builder
	for range 3000 {
		files.WriteString("begin 644 a\r\n#86)C\r\nend\r\n")
		messages.WriteString("--a\r\n" + nestedIn("base64", "\r\nbegin 644 a\r\n#86)C\r\nend\r\n") + "\r\n")
	}
	half := "--a\r\n" + nestedIn("base64", "\r\n"+strings.Repeat("x", maxDecoded/3)) + "\r\n"
	mixed := "Content-Type: multipart/mixed; boundary=a\r\n\r\n"
	for name, c := range map[string]struct {
		in, want string
		parts    int
	}{
		"deep":     {deep, "depth", maxMIMEDepth},
		"large":    {bomb, "size", 1},
		"together": {mixed + strings.Repeat(half, 5), "size", 1 + 5 + 2},
		"files":    {"\r\n" + files.String(), "parts", maxMIMEParts},
		"messages": {mixed + messages.String(), "parts", maxMIMEParts},
	} {
		m := parsed(t, c.in)
		if m.Truncated != c.want || m.Len() != c.parts {
			t.Errorf("%s: truncated %q, %d parts", name, m.Truncated, m.Len())
		}
	}
}

// broken is a body whose reading fails behind a place.
type broken struct {
	Bytes
	from int64
}

func (b broken) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > b.from {
		return 0, io.ErrClosedPipe
	}
	return b.Bytes.ReadAt(p, off)
}

// An error of reading the body comes out, wherever it meets the walk.
func TestUnpackErrors(t *testing.T) {
	for _, in := range []string{nestedIn("base64", "\r\n"+strings.Repeat("x", 200_000)), "\r\n" + strings.Repeat("text\r\n", 40_000)} {
		if _, err := ParseMIME(broken{Bytes(in), int64(len(in) / 2)}); err == nil {
			t.Error("no error")
		}
	}
}
