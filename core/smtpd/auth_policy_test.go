package smtpd

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/postern-mta/postern/core/auth"
	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
)

// withoutFiles lets a rig offer TLS, and AUTH where policies judge.
func withoutFiles(t *testing.T, r *rig) *rig {
	t.Helper()
	a, err := auth.New(auth.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r.server.auth, r.listener.Auth = a, auth.Mechanisms()
	return withTLS(t, r)
}

// TestAuthStage: policies judge logins before the reply, and the session is who
// they say.
func TestAuthStage(t *testing.T) {
	anna := "AUTH PLAIN " + b64("\x00anna\x00hunter2") + "\n"
	relays := from + "RCPT TO:<x@elsewhere.example>\n"
	for name, one := range map[string]struct {
		d        hooks.Decision
		dialogue string
		user     string
	}{
		"accept":       {hooks.Decision{Verb: hooks.Accept, User: "anna@example.net"}, anna + "< 235 2.7.0\n" + relays + "< 250", "anna@example.net"},
		"no decision":  {hooks.Decision{}, anna + "< 535 5.7.8\n" + relays + "< 550", ""},
		"reject":       {hooks.Decision{Verb: hooks.Reject}, anna + "< 535 5.7.8 Authentication credentials invalid\n" + relays + "< 550", ""},
		"own words":    {hooks.Decision{Verb: hooks.Reject, Reply: message.NewReply(535, "5.7.1", "Not from there")}, anna + "< 535 5.7.1 Not from there", ""},
		"defer":        {hooks.Decision{Verb: hooks.Defer}, anna + "< 454 4.7.0 Temporary\n" + relays + "< 550", ""},
		"disconnect":   {hooks.Decision{Verb: hooks.Drop}, anna + "< 421 4.7.0\n<", ""},
		"and close":    {hooks.Decision{Verb: hooks.Reject, Disconnect: true}, anna + "< 535\n<", ""},
		"no user":      {hooks.Decision{Verb: hooks.Accept}, anna + "< 451 4.3.0\n" + relays + "< 550", ""},
		"LOGIN":        {hooks.Decision{Verb: hooks.Accept, User: "anna"}, "AUTH LOGIN\n< 334\n" + b64("anna") + "\n< 334\n" + b64("hunter2") + "\n< 235", "anna"},
		"acts as boss": {hooks.Decision{Verb: hooks.Accept, User: "boss"}, "AUTH PLAIN " + b64("boss\x00anna\x00hunter2") + "\n< 535", ""},
	} {
		t.Run(name, func(t *testing.T) {
			user, asked := "", false
			bubble(t, Limits{}, func(r *rig) {
				withoutFiles(t, r).policy(hooks.Auth, func(tx *hooks.Transaction) hooks.Decision {
					asked = true
					if l := tx.Login; l == nil || l.User != "anna" || l.Password != "hunter2" || tx.ID != "" || tx.Session.TLS == nil {
						t.Errorf("at auth: %+v", tx)
					}
					return one.d
				}).policy(hooks.Mail, func(tx *hooks.Transaction) hooks.Decision {
					if tx.Login != nil {
						t.Error("the login is seen at mail")
					}
					user = tx.Session.User
					return hooks.Decision{}
				})
			}, func(t *testing.T, r *rig) {
				c := r.inTLS()
				play(t, c, one.dialogue)
				if strings.HasSuffix(one.dialogue, "\n<") {
					return
				}
				play(t, c, "RSET\n< 250\n"+from)
				if user != one.user {
					t.Errorf("user %q, want %q", user, one.user)
				}
			})
			if asked == (name == "acts as boss") {
				t.Errorf("asked: %v", asked)
			}
		})
	}
}

// TestAuthOffered: AUTH is there where a policy that counts judges logins, over TLS
// alone, and never SCRAM, which such a policy can't do.
func TestAuthOffered(t *testing.T) {
	judge := handler{"judge", []hooks.Stage{hooks.Auth}, nil}
	for name, one := range map[string]struct {
		entry   hooks.Entry
		allowed []string
		says    string
	}{
		"a policy":            {hooks.Entry{Handler: judge}, auth.Mechanisms(), "AUTH PLAIN LOGIN"},
		"one mechanism":       {hooks.Entry{Handler: judge}, []string{"LOGIN", "SCRAM-SHA-256"}, "AUTH LOGIN"},
		"SCRAM alone":         {hooks.Entry{Handler: judge}, []string{"SCRAM-SHA-256"}, ""},
		"off":                 {hooks.Entry{Handler: judge}, nil, ""},
		"in shadow":           {hooks.Entry{Handler: judge, Mode: hooks.Shadow}, auth.Mechanisms(), ""},
		"of another listener": {hooks.Entry{Handler: judge, When: hooks.When{Listener: []string{"other"}}}, auth.Mechanisms(), ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := withoutFiles(t, newRig(t, Limits{}))
			r.handlers, r.listener.Auth = append(r.handlers, one.entry), one.allowed
			r.start()
			c := r.dial()
			c.want("220")
			if got := c.say("EHLO x", "250"); strings.Contains(got, "AUTH") {
				t.Errorf("in the clear: %q", got)
			}
			c.secure()
			said := ""
			for _, line := range offers(c.say("EHLO x", "250")) {
				if keyword(line) == "AUTH" {
					said = line
				}
			}
			if said != one.says {
				t.Errorf("EHLO says %q, want %q", said, one.says)
			}
			if said == "" {
				c.say("AUTH PLAIN =", "502 5.5.1")
			}
		})
	}
}

// TestPasswordsAreNotTold: what is logged, recorded and printed of a login has no
// password in it.
func TestPasswordsAreNotTold(t *testing.T) {
	var log bytes.Buffer
	bubble(t, Limits{}, func(r *rig) {
		withAuth(t, r).policy(hooks.Auth, func(tx *hooks.Transaction) hooks.Decision {
			slog.New(slog.NewJSONHandler(&log, nil)).Info("seen", "login", *tx.Login, "pointer", tx.Login, "within", struct{ L *hooks.Login }{tx.Login})
			fmt.Fprintf(&log, "%v %+v %s\n", tx.Login, *tx.Login, tx.Login)
			if tx.Login.User == "anna" {
				return hooks.Decision{Verb: hooks.Reject, Reason: "a guess"}
			}
			return hooks.Decision{Verb: hooks.Accept, User: "zoe"}
		})
		r.server.log = slog.New(slog.NewJSONHandler(&log, nil))
	}, func(t *testing.T, r *rig) {
		c := r.inTLS()
		c.say("AUTH PLAIN "+b64("\x00anna\x00hunter2"), "535")
		c.say("AUTH PLAIN "+b64("\x00zoe\x00hunter2"), "235")
		c.say("QUIT", "221")
		r.stop()
		<-r.done
		told := log.String() + strings.Join(r.story.runs, " ") + strings.Join(r.story.refusals, " ")
		if strings.Contains(told, "hunter2") || strings.Contains(told, b64("\x00zoe\x00hunter2")) {
			t.Errorf("told: %s", told)
		}
		for _, want := range []string{`"user":"anna"`, `"policy":"p0"`, `"user":"zoe"`, "PLAIN anna", "auth p0 535"} {
			if !strings.Contains(told, want) {
				t.Errorf("%s is missing in %s", want, told)
			}
		}
	})
}
