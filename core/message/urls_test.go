package message

import (
	"strings"
	"testing"
)

func TestURLs(t *testing.T) {
	for in, want := range map[string]string{
		"see http://example.com/a?b=c.":                          "http://example.com/a?b=c example.com",
		"(https://EXAMPLE.com/x_(y)) and www.example.org!":       "https://EXAMPLE.com/x_(y) example.com|http://www.example.org www.example.org",
		"hxxp://evil[.]example[.]com/x and hxxps[:]//a(dot)b":    "http://evil.example.com/x evil.example.com!|https://a.b a.b!",
		"http://user:pw@ex%61mple.com:8080/p":                    "http://user:pw@ex%61mple.com:8080/p example.com",
		"http://0x7f.1/ http://3232235777/ http://[2001:DB8::1]": "http://0x7f.1/ 127.0.0.1|http://3232235777/ 192.168.1.1|http://[2001:DB8::1] 2001:db8::1",
		"http://r.example/go?u=https%3A%2F%2Fevil.example%2Fx":   "http://r.example/go?u=https%3A%2F%2Fevil.example%2Fx r.example|https://evil.example/x evil.example",
		"mailto:a@b.example; xhttp://no.example http:/no http:":  "mailto:a@b.example ",
		"http://bücher。example/ü":                                "http://bücher。example/ü xn--bcher-kva.example",
		"awww.example.com x.www.example.com":                     "",
	} {
		m := parsed(t, "Content-Type: text/plain; charset=utf-8\r\n\r\n"+in)
		if got := urlLines(t, m); got != want {
			t.Errorf("%q: got\n%s\nwant\n%s", in, got, want)
		}
	}
	for in, want := range map[string]string{
		`<a href="&#104;ttp://ex&#97;mple.com/&amp;x">`:                     "http://example.com/&x example.com",
		"<a href=\" ht\ntp:\\\\example.com\\x?a\\b\">":                      `http://example.com/x?a\b example.com`,
		`<img src=//cdn.example/i.png><a href="#x"><a href=javascript:x()>`: "https://cdn.example/i.png cdn.example",
		`<base href="http://b.example/"><a href=/p>`:                        "http://b.example/ b.example|http://b.example/p b.example",
		`<script>var x="http://s.example"</script><p>http://t.example</p>`:  "http://t.example t.example",
		`<td style="background:url(http://i.example/x)">`:                   "http://i.example/x i.example",
		`<meta http-equiv=refresh content="0;url=http://m.example/">`:       "http://m.example/ m.example",
	} {
		m := parsed(t, "Content-Type: text/html\r\n\r\n"+in)
		if got := urlLines(t, m); got != want {
			t.Errorf("%q: got\n%s\nwant\n%s", in, got, want)
		}
	}
	m := parsed(t, "Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\naHR0cDovL2Jhc2U2\r\nNC5leGFtcGxlLw==\r\n")
	if got := urlLines(t, m); got != "http://base64.example/ base64.example" {
		t.Error(got)
	}
	m = parsed(t, "\r\n"+strings.Repeat("http://a.example/"+strings.Repeat("x", 5000)+" ", 3))
	if list, more, _ := m.URLs(); !more || len(list) != 1 || len(list[0].Text) != maxURL {
		t.Errorf("%d %v", len(list), more)
	}
}

func urlLines(t testing.TB, m *MIME) string {
	t.Helper()
	list, _, err := m.URLs()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, u := range list {
		s := u.Text + " " + u.Host
		if u.Defanged {
			s += "!"
		}
		out = append(out, s)
	}
	return strings.Join(out, "|")
}

func TestRenderHTML(t *testing.T) {
	in := "<html><head><title>T</title><style>p{}</style></head><body><p>One&nbsp;&amp; \n two<br>th\u200bree<script>no()</script><table><tr><td>a<td>b</table><img alt='pic'></body>"
	if got, more, err := RenderHTML(strings.NewReader(in), 1000); got != "T\nOne & two\nthree\na b\npic" || more || err != nil {
		t.Errorf("%q %v %v", got, more, err)
	}
	if got, more, _ := RenderHTML(strings.NewReader(in), 20); len(got) > 20 || !more {
		t.Errorf("%q %v", got, more)
	}
}
