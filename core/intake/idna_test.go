package intake

import (
	"errors"
	"strings"
	"testing"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
)

func TestCanonical(t *testing.T) {
	for in, want := range map[string]string{
		"example.net": "example.net", "": "", "[192.0.2.1]": "[192.0.2.1]", "under_score.example": "under_score.example",
		"bücher.example": "xn--bcher-kva.example", "BÜCHER.example": "xn--bcher-kva.example", "bu\u0308cher.example": "xn--bcher-kva.example",
		"xn--bcher-kva.example": "xn--bcher-kva.example", "faß.example": "xn--fa-hia.example", "例え.テスト": "xn--r8jz45g.xn--zckzah",
		"example。net": "example.net", "ｅｘａｍｐｌｅ.net": "example.net",
	} {
		got, err := Canonical(message.Address{Local: "a", Domain: in})
		if err != nil || got.Domain != want || got.Local != "a" {
			t.Errorf("%q: %q %v, want %q", in, got.Domain, err, want)
		}
	}
	if got, err := Canonical(message.Address{Domain: strings.Repeat("ü", 40) + ".example"}); err != nil || len(got.Domain) > 63 {
		t.Errorf("a label of 80 octets, whose A-label is shorter: %q, %v", got.Domain, err)
	}
	for _, in := range []string{
		"a＠b.example", "\xff.example", "a\ufffd.example", "ü\u200d.example", "ü..example", "-ü.example", "ü/.example", "⒈com.ü", "ü_x.example", "ü%.example", "［192.0.2.1］", strings.Repeat("ü", 70) + ".example", strings.Repeat("ü.", 126) + "x", "א1ü.example", "\u2024ü.example", "ü\u0378.example",
	} {
		if got, err := Canonical(message.Address{Local: "a", Domain: in}); !errors.Is(err, message.ErrBadDomain) {
			t.Errorf("%q became %q, %v", in, got.Domain, err)
		}
	}
}

// FuzzCanonical: what comes out is a plain host name that stays as it is.
func FuzzCanonical(f *testing.F) {
	for _, s := range []string{"bücher.example", "例え.テスト", "ü。x", "xn--ü", "ｘ．ü", "\u0378"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		domain, err := message.ParseDomain(s)
		if err != nil {
			return
		}
		got, err := canonicalDomain(domain)
		if err != nil {
			return
		}
		if again, err := message.ParseDomain(got); err != nil || again != got || !isASCII(got) {
			t.Fatalf("%q became %q, which is %q, %v", s, got, again, err)
		}
		if again, err := canonicalDomain(got); err != nil || again != got {
			t.Fatalf("%q became %q, then %q, %v", s, got, again, err)
		}
	})
}

// TestOneDomain: U-labels and A-labels of a domain are the same one, and the
// queue keeps how it was written.
func TestOneDomain(t *testing.T) {
	w := open(t, func(s *Settings) { s.Domains = NewDomains([]Domain{{Name: "xn--bcher-kva.example"}}) })
	if !w.in.Ours("bücher.example") || !w.in.Ours("xn--bcher-kva.example") || w.in.Ours("bucher.example") || w.in.Ours("ü\u200d") {
		t.Error("Ours")
	}
	tx := transaction()
	tx.Params = []hooks.Param{{Key: "SMTPUTF8"}}
	tx.Given = message.Address{Local: "s", Domain: "größe.example"}
	tx.Sender, _ = Canonical(tx.Given)
	tx.Session.TLS, tx.Session.Authenticated = &hooks.TLSFact{}, true
	given := message.Address{Local: "ö", Domain: "bücher.example"}
	one, _ := Canonical(given)
	two := message.Address{Local: "x", Domain: "öl.example"} // as a policy might put it
	tx.Recipients = []*hooks.Recipient{{Address: one, Given: given}, {Address: two, Given: message.Address{Local: "y", Domain: "example.net"}}}
	w.take(t, chain(), tx, "Subject: ü\r\n\r\nx", 3)
	m := w.taken[0]
	if m.Sender.Domain != "xn--gre-6ka8i.example" || m.Unicode != "größe.example" || !m.SMTPUTF8 || m.Binary || m.EightBit {
		t.Errorf("%+v", m)
	}
	if r := m.Recipients[0]; r.Address != one || r.AddressFor(true) != given || r.Original != "" {
		t.Errorf("%+v", r)
	}
	if r := m.Recipients[1]; r.Address.Domain != "xn--l-0ga.example" || r.Unicode != "öl.example" || r.Original != "y@example.net" {
		t.Errorf("%+v", r)
	}
	if !strings.Contains(w.text, " with UTF8SMTPSA id ") || !strings.HasSuffix(w.text, "\r\nSubject: ü\r\n\r\nx") {
		t.Errorf("%q", w.text)
	}
}

// TestInjectUTF8: mail made here that needs SMTPUTF8 says so by itself.
func TestInjectUTF8(t *testing.T) {
	w := open(t, nil)
	for _, c := range []struct {
		rcpt message.Address
		code int
		utf8 bool
	}{
		{message.Address{Local: "a", Domain: "bücher.example"}, 250, false},
		{message.Address{Local: "é", Domain: "example.net"}, 250, true},
		{message.Address{Local: "a", Domain: "ü\u200d.example"}, 501, false},
	} {
		tx := NewLocal("local", message.Address{Local: "s", Domain: "example.net"}, []message.Address{c.rcpt})
		w.taken = nil
		r := w.in.Inject(t.Context(), hooks.NewChain([]hooks.Entry{{Handler: w.in.RecipientRule()}}, hooks.Options{}), tx, strings.NewReader("Subject: x\n\n"))
		if r.Code != c.code || c.code == 250 && w.taken[0].SMTPUTF8 != c.utf8 {
			t.Errorf("%v: %s, %+v", c.rcpt, r, w.taken)
		}
	}
}

// TestBinary: a body may be binary, a header section never (RFC 3030 section 3).
func TestBinary(t *testing.T) {
	for text, code := range map[string]int{
		"Subject: x\r\n\r\na\nb\rc\x00": 250, "no field\nat\rall\x00": 250, "\r\n\n": 250, "Subject: x\r\n\r\n": 250, "Subject: x": 250,
		"Subject: x\nBcc: y\r\n\r\n": 554, "Subject: x\ry\r\n\r\n": 554, "Subject: \x00\r\n\r\nb": 554, "Subject: x\r": 554,
	} {
		for _, piece := range []int{1, 100} {
			w := open(t, nil)
			tx := transaction("a@example.net")
			tx.Params = []hooks.Param{{Key: "BODY", Value: "BINARYMIME"}}
			a := w.take(t, chain(), tx, text, piece)
			if a.Reply.Code != code || code == 250 && (!w.taken[0].Binary || !strings.HasSuffix(w.text, "\r\n"+text)) {
				t.Errorf("%q: %s, %q", text, a.Reply, w.text)
			}
		}
	}
}

// TestRefused: only a real refusal ends a message before its end.
func TestRefused(t *testing.T) {
	for verb, want := range map[hooks.Verb]bool{hooks.Reject: true, hooks.Defer: true, hooks.Drop: true, hooks.Discard: false, hooks.Quarantine: false, hooks.Pass: false} {
		w := open(t, nil)
		m := w.in.Begin(t.Context(), chain(at{hooks.Headers, func(*hooks.Transaction) hooks.Decision { return hooks.Decision{Verb: verb} }}), transaction("a@example.net"))
		m.Write([]byte("Subject: x\r\n"))
		if m.Refused() {
			t.Errorf("%s: refused before its header is complete", verb)
		}
		m.Write([]byte("\r\n"))
		if m.Refused() != want {
			t.Errorf("%s: %v", verb, m.Refused())
		}
		m.Abort()
	}
}

// TestWithProtocol: the words of RFC 3848 and RFC 6531 section 4.3.
func TestWithProtocol(t *testing.T) {
	for _, c := range []struct {
		protocol            string
		extended, tls, auth bool
		params              []hooks.Param
		want                string
	}{
		{"smtp", false, false, false, nil, "SMTP"},
		{"smtp", true, false, false, nil, "ESMTP"},
		{"smtp", true, true, true, nil, "ESMTPSA"},
		{"submission", true, true, true, nil, "ESMTPSA"},
		{"smtp", true, true, false, []hooks.Param{{Key: "SMTPUTF8"}}, "UTF8SMTPS"},
		{"lmtp", true, false, false, nil, "LMTP"},
		{"lmtp", true, true, true, []hooks.Param{{Key: "SMTPUTF8"}}, "UTF8LMTPSA"},
		{"local", false, false, false, nil, "local"},
	} {
		tx := transaction()
		s := tx.Session
		s.Protocol, s.Extended, s.Authenticated, tx.Params = c.protocol, c.extended, c.auth, c.params
		if c.tls {
			s.TLS = &hooks.TLSFact{}
		}
		if got := withProtocol(tx); got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
}
