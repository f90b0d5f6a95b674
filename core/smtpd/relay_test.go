package smtpd

import (
	"net/netip"
	"strings"
	"testing"
)

// TestOpenRelay: the forms by which strangers have made servers relay (attack 5).
// Those that are addresses of ours are kept for us as they are written; nothing
// in a local part, and nothing in front of an address, is ever a way elsewhere.
func TestOpenRelay(t *testing.T) {
	const denied = "550 5.7.1 Relaying denied"
	w := newWhole(t, Limits{})
	for name, one := range map[string]struct{ rcpt, want, kept string }{
		"plain":                            {"user@elsewhere.example", denied, ""},
		"source route":                     {"@example.net:user@elsewhere.example", denied, ""},
		"source route of several":          {"@example.net,@mx.example.net:user@elsewhere.example", denied, ""},
		"source route to us":               {"@elsewhere.example:user@example.net", "250 2.1.5", "user@example.net"},
		"percent hack":                     {"user%elsewhere.example@example.net", "250 2.1.5", "user%elsewhere.example@example.net"},
		"percent hack twice":               {"user%elsewhere.example%example.net@elsewhere.example", denied, ""},
		"percent in the domain":            {"user@example.net%elsewhere.example", "501 5.1.3", ""},
		"quoted local part":                {`"user@elsewhere.example"@example.net`, "250 2.1.5", `"user@elsewhere.example"@example.net`},
		"quoted local part, elsewhere":     {`"user@example.net"@elsewhere.example`, denied, ""},
		`"a@b"@c`:                          {`"a@example.net"@c`, denied, ""},
		"bang path":                        {"elsewhere.example!user@example.net", "250 2.1.5", "elsewhere.example!user@example.net"},
		"bang path without a domain":       {"elsewhere.example!user", "501 5.1.3", ""},
		"bang path elsewhere":              {"example.net!user@elsewhere.example", denied, ""},
		"missing domain":                   {"user", "501 5.1.3", ""},
		"missing local part":               {"@elsewhere.example", "501 5.1.3", ""},
		"missing local part, ours":         {"@example.net", "501 5.1.3", ""},
		"trailing dot":                     {"user@elsewhere.example.", "5", ""},
		"trailing dot, ours":               {"user@example.net.elsewhere.example.", "5", ""},
		"leading dot":                      {"user@.example.net", "501 5.1.3", ""},
		"case":                             {"user@ELSEWHERE.Example", denied, ""},
		"case, ours":                       {"User@EXAMPLE.Net", "250 2.1.5", "User@example.net"},
		"our name in front of theirs":      {"user@example.net.elsewhere.example", denied, ""},
		"our name behind theirs":           {"user@elsewhere-example.net", denied, ""},
		"a name below ours":                {"user@sub.example.net", denied, ""},
		"two @":                            {"user@elsewhere.example@example.net", "501 5.1.3", ""},
		"two @, ours first":                {"user@example.net@elsewhere.example", "501 5.1.3", ""},
		"two addresses":                    {"user@example.net,user@elsewhere.example", "501 5.1.3", ""},
		"two paths":                        {"user@example.net><user@elsewhere.example", "501 5.1.3", ""},
		"IP literal":                       {"user@[192.0.2.1]", denied, ""},
		"IP literal of the loopback":       {"user@[127.0.0.1]", denied, ""},
		"IPv6 literal":                     {"user@[IPv6:2001:db8::1]", denied, ""},
		"general literal":                  {"user@[example.net]", "501 5.1.3", ""},
		"a bare address":                   {"user@192.0.2.1", "5", ""},
		"localhost":                        {"user@localhost", denied, ""},
		"Unicode look-alike":               {"user@ехаmple.net", denied, ""},
		"Unicode look-alike as an A-label": {"user@xn--mple-53da9d.net", denied, ""},
		"full width, the same name":        {"user@ｅｘａｍｐｌｅ.net", "250 2.1.5", "user@example.net"},
		"full width @":                     {"user＠elsewhere.example@example.net", "250 2.1.5", "user＠elsewhere.example@example.net"},
		"full width dot":                   {"user@elsewhere．example", denied, ""},
		"full width colon":                 {"@example.net：user@elsewhere.example", "501 5.1.3", ""},
		"NUL":                              {"user@example.net\x00.elsewhere.example", "501", ""},
		"a blank":                          {"user@example.net @elsewhere.example", "501 5.1.3", ""},
		"a comment":                        {"user@elsewhere.example(@example.net)", "501 5.1.3", ""},
		"a backslash":                      {`user\@elsewhere.example@example.net`, "501 5.1.3", ""},
		"a colon in the local part":        {"elsewhere.example:user@example.net", "501 5.1.3", ""},
	} {
		for _, sender := range []string{"a@client.example", "", "user@example.net", "user@elsewhere.example"} {
			t.Run(name+" from <"+sender+">", func(t *testing.T) {
				c := w.dial()
				defer c.nc.Close()
				c.t = t
				c.say("EHLO x", "250")
				c.say("MAIL FROM:<"+sender+"> SMTPUTF8", "250")
				c.say("RCPT TO:<"+one.rcpt+">", one.want)
				if one.kept == "" {
					c.say("DATA", "5")
					return
				}
				c.say("DATA", "354")
				c.send("Subject: x\r\n\r\n.\r\n")
				c.want("250 2.0.0 Ok: queued")
				w.mu.Lock()
				defer w.mu.Unlock()
				if m := w.mails[len(w.mails)-1]; len(m.Recipients) != 1 || m.Recipients[0].Address.String() != one.kept || m.Recipients[0].Route != "" {
					t.Errorf("kept for %+v", m.Recipients)
				}
			})
		}
	}
}

// TestOpenRelayByTrustOfStrangers: what a trusted peer may say counts for nothing
// when a stranger says it (attack 5; checklist 16 and 17).
func TestOpenRelayByTrustOfStrangers(t *testing.T) {
	const foreign = from + "RCPT TO:<user@elsewhere.example>\n< 550 5.7.1" + bye
	for name, dialogue := range map[string]string{
		"XCLIENT ADDR":           hi + "XCLIENT ADDR=127.0.0.1\n< 550 5.7.0\n" + foreign,
		"XCLIENT LOGIN":          hi + "XCLIENT LOGIN=root\n< 550 5.7.0\n" + foreign,
		"XCLIENT before EHLO":    "< 220\nXCLIENT NAME=mx.example.net ADDR=127.0.0.1\n< 550 5.7.0\n" + "EHLO x\n< 250\n" + foreign,
		"XCLIENT, pipelined":     "< 220\n>EHLO x\\r\\nXCLIENT ADDR=127.0.0.1\\r\\nEHLO x\\r\\n\n< 250\n< 550\n< 250\n" + foreign,
		"XCLIENT malformed":      hi + "XCLIENT\n< 501\nXCLIENT =\n< 550\n" + foreign,
		"XFORWARD ADDR":          hi + "XFORWARD ADDR=127.0.0.1 SOURCE=LOCAL\n< 550 5.7.0\n" + foreign,
		"PROXY v1":               "< 220\nPROXY TCP4 127.0.0.1 127.0.0.1 25 25\n< 500 5.5.2\nEHLO x\n< 250\n" + foreign,
		"PROXY v1 in front":      ">PROXY TCP4 127.0.0.1 127.0.0.1 25 25\\r\\nEHLO x\\r\\n\n< 220\n< 500 5.5.2\n< 250\n" + foreign,
		"PROXY v1 after EHLO":    hi + "PROXY UNKNOWN\n< 500 5.5.2\n" + foreign,
		"PROXY v1 cut":           "< 220\nPROXY TCP4 127.0.0.1\n< 500 5.5.2\nEHLO x\n< 250\n" + foreign,
		"PROXY v2":               "< 220\n>\\r\\n\\r\\n\\0\\r\\nQUIT\\n\x21\x11\\0\x0c\x7f\\0\\0\x01\x7f\\0\\0\x01\\0\x19\\0\x19EHLO x\\r\\n\n< 500\n< 500\n< 501\n< 501\nEHLO x\n< 250\n" + foreign,
		"EHLO with our name":     "< 220\nEHLO mx.example.net\n< 250\n" + foreign,
		"EHLO with our address":  "< 220\nEHLO [127.0.0.1]\n< 250\n" + foreign,
		"AUTH= of MAIL":          hi + "MAIL FROM:<s@client.example.org> AUTH=root@example.net\n< 555\n" + foreign,
		"a sender of ours":       hi + "MAIL FROM:<root@example.net>\n< 250\nRCPT TO:<user@elsewhere.example>\n< 550 5.7.1" + bye,
		"after a recipient ours": hi + from + to + "RCPT TO:<user@elsewhere.example>\n< 550 5.7.1" + bye,
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, Limits{})
			r.listener.RelayFrom = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
			r.listener.ProxyFrom = r.listener.RelayFrom
			r.start()
			play(t, r.dial(), strings.ReplaceAll(dialogue, "\r\n\n", "\r\n"))
		})
	}
}
