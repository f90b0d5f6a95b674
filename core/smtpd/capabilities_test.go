package smtpd

import (
	"slices"
	"strings"
	"testing"

	"github.com/postern-mta/postern/hooks"
)

// offers is what a reply to EHLO lists.
func offers(reply string) []string {
	var list []string
	for line := range strings.Lines(reply) {
		list = append(list, strings.TrimSpace(line[4:]))
	}
	return list[1:]
}

// without is a policy that takes extensions away.
func without(words ...string) hooks.Decision {
	var d hooks.Decision
	for _, word := range words {
		d.Edits = append(d.Edits, hooks.Edit{Kind: hooks.RemoveCapability, Value: word})
	}
	return d
}

// TestRemovedCapability: what stage helo takes away is not said, and its commands
// and parameters get what a server without the extension says.
func TestRemovedCapability(t *testing.T) {
	for word, dialogue := range map[string]string{
		"PIPELINING":          from + to,
		"SIZE":                "MAIL FROM:<s@client.example.org> SIZE=5\n< 555 5.5.4\n" + from,
		"8BITMIME":            "MAIL FROM:<s@client.example.org> BODY=8BITMIME\n< 555 5.5.4\nMAIL FROM:<s@client.example.org> BODY=7BIT\n< 250",
		"BINARYMIME":          "MAIL FROM:<s@client.example.org> BODY=BINARYMIME\n< 555 5.5.4\nMAIL FROM:<s@client.example.org> BODY=8BITMIME\n< 250",
		"8bitmime BINARYMIME": "MAIL FROM:<s@client.example.org> BODY=7BIT\n< 555 5.5.4\n" + from,
		"SMTPUTF8":            "MAIL FROM:<s@client.example.org> SMTPUTF8\n< 555 5.5.4\nVRFY föö SMTPUTF8\n< 553 5.6.7\n" + from,
		"CHUNKING":            from + to + ">BDAT 6\\r\\nQUIT\\r\\n\n< 502 5.5.1\n>BDAT 6 LAST\\r\\nQUIT\\r\\n\n< 502 5.5.1\nRSET\n< 250\nMAIL FROM:<s@client.example.org> BODY=BINARYMIME\n< 555",
		"DSN":                 "MAIL FROM:<s@client.example.org> RET=FULL\n< 555\nMAIL FROM:<s@client.example.org> ENVID=x\n< 555\n" + from + "RCPT TO:<b@example.net> NOTIFY=NEVER\n< 555\nRCPT TO:<b@example.net> ORCPT=rfc822;x@x\n< 555\n" + to,
		"PRDR":                "MAIL FROM:<s@client.example.org> PRDR\n< 555\n" + from,
		"LIMITS":              from + to,
		"STARTTLS":            "STARTTLS\n< 502 5.5.1\n" + from,
		"ENHANCEDSTATUSCODES": "NOOP\n< 250 Ok\nFROB\n< 500 Command not\nMAIL FROM:<s@client.example.org>\n< 250 Ok\n",
		"XCLIENT XFORWARD":    "XCLIENT ADDR=192.0.2.1\n< 550\nXFORWARD ADDR=192.0.2.1\n< 550\n" + from,
	} {
		t.Run(word, func(t *testing.T) {
			r := withTLS(t, newRig(t, Limits{}))
			r.peer = "127.0.0.1:4711"
			words := strings.Fields(word)
			r.policy(hooks.Helo, func(tx *hooks.Transaction) hooks.Decision {
				if tx.Session.Helo == "again.example" {
					return hooks.Decision{}
				}
				return without(words...)
			}).start()
			c := r.dial()
			c.want("220")
			list := offers(c.say("EHLO client.example.org", "250"))
			for i := range words {
				words[i] = strings.ToUpper(words[i])
			}
			if word == "CHUNKING" {
				words = append(words, "BINARYMIME")
			}
			for _, line := range list {
				if slices.Contains(words, keyword(line)) {
					t.Errorf("%q is said still", line)
				}
			}
			if n := len(list) + len(words); n != 13 {
				t.Errorf("%d of 13 extensions are accounted for in %q", n, list)
			}
			play(t, c, dialogue)
			// The next EHLO begins anew.
			if again := offers(c.say("EHLO again.example", "250")); len(again) != 13 {
				t.Errorf("after the second EHLO: %q", again)
			}
			c.say("MAIL FROM:<s@client.example.org> SIZE=5 BODY=BINARYMIME SMTPUTF8 RET=FULL PRDR", "250 2.1.0")
			c.say("RCPT TO:<b@example.net> NOTIFY=NEVER", "250 2.1.5")
			c.say("BDAT 0 LAST", "353")
		})
	}
}

// TestAddedCapability: an extension that we do not have is said and no more, in the
// place where the policy put it; what stage helo is shown is what EHLO would say.
func TestAddedCapability(t *testing.T) {
	var shown []string
	r := newRig(t, Limits{}).policy(hooks.Helo, func(tx *hooks.Transaction) hooks.Decision {
		shown = tx.Capabilities
		return hooks.Decision{Edits: []hooks.Edit{
			{Kind: hooks.AddCapability, Value: "X-EXAMPLE one two"}, {Kind: hooks.AddCapability, Value: "SIZE 1000"}, {Kind: hooks.RemoveCapability, Value: "X-NOT-THERE"},
		}}
	}).start()
	c := r.dial()
	c.want("220")
	list := offers(c.say("EHLO client.example.org", "250"))
	if n := len(list); n != len(shown)+1 || list[n-2] != "X-EXAMPLE one two" || list[n-1] != "SIZE 1000" {
		t.Errorf("offers %q, shown %q", list, shown)
	}
	c.say("X-EXAMPLE", "500 5.5.2")
	c.say("MAIL FROM:<s@client.example.org> X-EXAMPLE=1", "555")
	c.say("MAIL FROM:<s@client.example.org> SIZE=5000", "250")
	c.say("HELO client.example.org", "250 mx.example.net\r\n")
}

// TestRemovedMechanism: AUTH, or some of its mechanisms, taken away by a policy are
// neither said nor served; over TLS as in the clear.
func TestRemovedMechanism(t *testing.T) {
	for name, one := range map[string]struct{ edits, says, dialogue string }{
		"all":  {"-AUTH", "", "AUTH PLAIN " + b64("\x00anna\x00secret") + "\n< 502 5.5.1\nMAIL FROM:<s@client.example.org> AUTH=<>\n< 555\n" + from},
		"some": {"+AUTH LOGIN", "AUTH LOGIN", "AUTH PLAIN " + b64("\x00anna\x00secret") + "\n< 504 5.5.4\nAUTH LOGIN " + b64("anna") + "\n< 334\n" + b64("secret") + "\n< 235"},
		"none": {"+AUTH", "AUTH", "AUTH PLAIN " + b64("\x00anna\x00secret") + "\n< 502 5.5.1\n"},
	} {
		t.Run(name, func(t *testing.T) {
			edit := hooks.Edit{Kind: hooks.AddCapability, Value: one.edits[1:]}
			if one.edits[0] == '-' {
				edit.Kind = hooks.RemoveCapability
			}
			r := withAuth(t, newRig(t, Limits{})).on(hooks.Helo, hooks.Decision{Edits: []hooks.Edit{edit}}).start()
			c := r.greeted()
			c.secure()
			list := offers(c.say("EHLO client.example.org", "250"))
			said := ""
			for _, line := range list {
				if keyword(line) == "AUTH" {
					said = line
				}
			}
			if said != one.says {
				t.Errorf("EHLO says %q, want %q", said, one.says)
			}
			play(t, c, one.dialogue)
		})
	}
}
