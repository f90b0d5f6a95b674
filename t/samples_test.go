package t

import (
	"encoding/base64"
	"strconv"
	"strings"
)

// samples are messages with the peculiarities of those that mail readers are
// tested with, made here so that each says what it is about. Their lines end with
// LF; sent by line-based protocols they get CRLF. POSTERN_CORPUS adds a folder of
// real ones.
func samples() map[string]string {
	const (
		head = "From: Anna <a@client.example>\nTo: b@example.net\nSubject: sample\n"
		mime = head + "MIME-Version: 1.0\n"
		date = "Date: Tue, 03 Nov 2026 10:00:00 +0100\nMessage-ID: <1@client.example>\n"
	)
	mixed := func(boundary, body string) string {
		return mime + "Content-Type: multipart/mixed; boundary=\"" + boundary + "\"\n\n" + body
	}
	pdf := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("%PDF-1.7\x00\xff\xfe", 200)))
	lined := ""
	for i := 0; i < len(pdf); i += 76 {
		lined += pdf[i:min(i+76, len(pdf))] + "\n"
	}
	nested := "Content-Type: text/plain\n\ninnermost\n"
	for i := range 20 {
		b := "nest" + strconv.Itoa(i)
		nested = "Content-Type: multipart/mixed; boundary=" + b + "\n\n--" + b + "\n" + nested + "\n--" + b + "--\n"
	}
	all := map[string]string{
		"plain":                           head + date + "\nhello\n",
		"no header":                       "\nonly a body\n",
		"header only":                     head + "Content-Type: text/plain\n",
		"header and empty line":           head + "\n",
		"empty":                           "",
		"an empty line":                   "\n",
		"no last line end":                head + "\nno end",
		"blank lines at the end":          head + "\ntext\n\n\n\n",
		"dots":                            head + "\n.\n..\n...\n.x\n\n.\n",
		"begins with a dot":               ".a: b\n\n.x\n",
		"long lines":                      head + "\n" + strings.Repeat("x", 998) + "\n." + strings.Repeat("y", 997) + "\n",
		"lines beyond 998":                head + "\n" + strings.Repeat("z", 5000) + "\n",
		"a header line beyond 998":        head + "References:" + strings.Repeat(" <long@client.example>", 100) + "\n\nx\n",
		"folded fields":                   head + "X-Folded: one\n\ttwo\n    three\n \nX-Twice: a\nX-Twice: b\nx-lower:no blank\nX-Empty:\nX-Blank : before the colon\n\nb\n",
		"no colon":                        "this is no field\nnor is this\n\nbut this is a body\n",
		"a field without a name":          head + ": value\n\nx\n",
		"a From line":                     "From a@client.example Tue Nov  3 10:00:00 2026\n" + head + "\nx\n",
		"From lines in the body":          head + "\nFrom here\n>From there\n",
		"odd header order":                "Content-Type: text/plain\nReceived: from old.example by older.example; Tue, 03 Nov 2026 09:00:00 +0000\n" + head + "Return-Path: <x@client.example>\n\nx\n",
		"encoded words":                   "From: =?utf-8?q?J=C3=B6rg?= <j@client.example>\nSubject: =?utf-8?b?R3LDvMOfZQ==?=\n =?iso-8859-1?q?a=E4?= =?utf-8?q?broken\n\nx\n",
		"malformed addresses":             "From: \"a <b@c.example>, , <>, d@@e.example\nTo: undisclosed-recipients:;\nCc: (comment (nested)) x@y.example,\n\nx\n",
		"7-bit multipart":                 mixed("b", "preamble\n--b\nContent-Type: text/plain\n\none\n--b\nContent-Type: text/html\n\n<p>two</p>\n--b--\nepilogue\n"),
		"boundary with blanks":            mixed("a b'()+_,-./:=?", "--a b'()+_,-./:=?\n\nx\n--a b'()+_,-./:=?--\n"),
		"boundary that begins another":    mixed("b", "--b\nContent-Type: multipart/alternative; boundary=bb\n\n--bb\n\nx\n--bb--\n--b--\n"),
		"boundary never ended":            mixed("b", "--b\n\nx\n"),
		"boundary never begun":            mixed("b", "no part\n"),
		"boundary missing":                mime + "Content-Type: multipart/mixed\n\n--b\n\nx\n--b--\n",
		"boundary twice":                  mime + "Content-Type: multipart/mixed; boundary=a; boundary=b\n\n--a\n\nx\n--a--\n",
		"attachment":                      mixed("b", "--b\n\nsee there\n--b\nContent-Type: application/pdf; name=\"f.pdf\"\nContent-Disposition: attachment; filename=\"f.pdf\"\nContent-Transfer-Encoding: base64\n\n"+lined+"--b--\n"),
		"base64 that is none":             mime + "Content-Type: text/plain\nContent-Transfer-Encoding: base64\n\n!!!! no base64 ====\n",
		"quoted-printable":                mime + "Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n\nGr=C3=BC=C3=9Fe =\nweiter=20\n=.\n=\n",
		"RFC 2231 name":                   mixed("b", "--b\nContent-Type: text/plain; name*0*=utf-8''f%C3%BC; name*1=r.txt\n\nx\n--b--\n"),
		"an unknown type and encoding":    mime + "Content-Type: ;/x\nContent-Transfer-Encoding: x-frob\n\nx\n",
		"an unknown charset":              mime + "Content-Type: text/plain; charset=x-none\n\nx\n",
		"forwarded message":               mixed("b", "--b\nContent-Type: message/rfc822\n\n"+head+"\ninner\n--b--\n"),
		"digest":                          mime + "Content-Type: multipart/digest; boundary=b\n\n--b\n\n" + head + "\none\n--b\n\n" + head + "\ntwo\n--b--\n",
		"nested twenty deep":              mime + nested,
		"report":                          mime + "Content-Type: multipart/report; report-type=delivery-status; boundary=b\n\n--b\n\nno\n--b\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; x.example\n\nFinal-Recipient: rfc822; a@b.example\nAction: failed\nStatus: 5.1.1\n--b--\n",
		"signed":                          mime + "Content-Type: multipart/signed; protocol=\"application/pgp-signature\"; micalg=pgp-sha256; boundary=b\n\n--b\nContent-Type: text/plain\n\nsigned text \n\n--b\nContent-Type: application/pgp-signature\n\n-----BEGIN PGP SIGNATURE-----\n\n=abcd\n-----END PGP SIGNATURE-----\n--b--\n",
		"looks like SMTP":                 head + "\nQUIT\nMAIL FROM:<x@y>\nBDAT 5 LAST\n354 go\nRSET\n",
		"control characters":              head + "\n\x01\x02\x03\x07\x08\x0b\x0c\x0e\x1b[31m\x7f\n",
		"many fields":                     strings.Repeat("X-Field: value\n", 500) + "\nx\n",
		"8bit text":                       mime + "Content-Type: text/plain; charset=iso-8859-1\nContent-Transfer-Encoding: 8bit\n\nGr\xfc\xdfe aus der Ferne\n",
		"8bit without MIME":               head + "\nGr\xfc\xdfe aus der Ferne\n",
		"8bit Cyrillic":                   mime + "Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\nпривет\n",
		"8bit in one of the parts":        mixed("b", "--b\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\nGrüße aus der Ferne\n--b\nContent-Type: text/html\n\n<p>x</p>\n--b--\n"),
		"8bit in a forwarded message":     mixed("b", "--b\nContent-Type: message/rfc822\n\nSubject: inner\n\nGrüße aus der Ferne\n--b--\n"),
		"8bit in a file":                  mixed("b", "--b\nContent-Type: image/x-none; name=x\n\n\xff\xfe\xfd\xfc\n--b--\n"),
		"8bit file name":                  mixed("b", "--b\nContent-Type: text/plain; name=\"gr\xfc\xdfe.txt\"\n\nx\n--b--\n"),
		"8bit field":                      "Subject: Gr\xfc\xdfe\n" + head + "\nx\n",
		"8bit inside what is signed":      mime + "Content-Type: multipart/signed; boundary=b\n\n--b\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\nGrüße\n--b\nContent-Type: application/pgp-signature\n\nx\n--b--\n",
		"8bit in the preamble":            mixed("b", "Grüße\n--b\n\nx\n--b--\n"),
		"8bit under two labels":           mime + "Content-Type: text/plain\nContent-Transfer-Encoding: 8bit\nContent-Transfer-Encoding: 7bit\n\nGrüße\n",
		"NUL":                             mime + "Content-Type: application/octet-stream\nContent-Transfer-Encoding: binary\n\na\x00b\n",
		"bare CR":                         mime + "Content-Type: application/octet-stream\nContent-Transfer-Encoding: binary\n\na\rb\n",
		"bare CR in the header":           head + "X: a\rb\n\nx\n",
		"an end of data for some readers": mime + "Content-Type: application/octet-stream\nContent-Transfer-Encoding: binary\n\na\r.\rMAIL FROM:<m@evil.example>\n\x00.\nx\n",
	}
	// What some server takes for the end of data, in a body that may hold it.
	for _, end := range []string{"\n.\n", "\n.\r", "\r.\n", "\r.\r", "\n.\r\n", "\r.\r\n", "\r\n.\n", "\r\n.\r", "\r\n\x00.\r\n", "\r\n.\x00\r\n", "\r\n.\r\r\n", "\r\r\n.\r\r\n", "\r\n.\r\n"} {
		all["smuggling "+strconv.Quote(end)] = strings.ReplaceAll(mime+"Content-Type: application/octet-stream\nContent-Transfer-Encoding: binary\n", "\n", "\r\n") +
			"\r\nfirst" + end + "MAIL FROM:<m@evil.example>\r\nRCPT TO:<x@plain.example>\r\nDATA\r\nSubject: smuggled\r\n\r\nsecond\r\n"
	}
	return all
}
