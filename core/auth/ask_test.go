package auth

import (
	"context"
	"net/netip"
	"testing"
	"testing/synctest"

	"github.com/postern-mta/postern/core/message"
)

// TestAskedBefore: who is asked before the back-ends decides where it does, but
// for SCRAM never in the place of the proof.
func TestAskedBefore(t *testing.T) {
	a := open(t, "sam:"+cheapScram("right"), "bea:"+cheapBcrypt(t, "right"))
	no := message.NewReply(535, "5.7.8", "No")
	later := message.NewReply(454, "4.7.0", "Later")
	byScram := func(password string) *Login {
		return scramClient(t, a.Begin(scramName), "n,,", "sam", password)
	}
	plainly := func(user, password string) *Login { return newLogin(plainName, "", user, password) }
	for name, one := range map[string]struct {
		login *Login
		user  string
		err   error
		want  string
		code  int
		asked bool
	}{
		"no decision, right":         {plainly("bea", "right"), "", nil, "bea", 0, true},
		"no decision, wrong":         {plainly("bea", "wrong"), "", nil, "", 535, true},
		"taken with a wrong one":     {plainly("bea", "wrong"), "beatrix", nil, "beatrix", 0, true},
		"taken, unknown to the file": {plainly("zoe", "x"), "zoe@example.net", nil, "zoe@example.net", 0, true},
		"refused with the right one": {plainly("bea", "right"), "", no, "", 535, true},
		"deferred":                   {plainly("bea", "right"), "", later, "", 454, true},
		"a name that is none":        {plainly("bea", "right"), "be a", nil, "", 454, true},
		"a name with a line end":     {plainly("bea", "right"), "be\r\na", nil, "", 454, true},
		"nobody's login":             {plainly("no body", "x"), "root", nil, "", 535, false},
		"to act as another":          {newLogin(plainName, "boss", "bea", "right"), "boss", nil, "", 535, false},
		"SCRAM, proven":              {byScram("right"), "", nil, "sam", 0, true},
		"SCRAM, proven and renamed":  {byScram("right"), "samuel", nil, "samuel", 0, true},
		"SCRAM, proven and refused":  {byScram("right"), "", no, "", 535, true},
		"SCRAM, not proven":          {byScram("wrong"), "sam", nil, "", 535, true},
		"SCRAM, not proven, later":   {byScram("wrong"), "", later, "", 454, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				asked := false
				user, err := a.Check(t.Context(), nowhere, one.login, func(context.Context) (string, error) {
					asked = true
					return one.user, one.err
				})
				if user != one.want && one.code == 0 || code(err) != one.code || asked != one.asked {
					t.Errorf("%q, %v, asked %v", user, err, asked)
				}
			})
		})
	}
}

// TestGuessingByPolicy: what a policy refuses counts as a guess, what it defers does
// not, and a client that guessed too often is turned away before any policy hears of
// it.
func TestGuessingByPolicy(t *testing.T) {
	a, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		ip, asked := netip.MustParseAddr("192.0.2.1"), 0
		try := func(answer message.Reply) int {
			_, err := a.Check(t.Context(), ip, newLogin(plainName, "", "anna", "x"), func(context.Context) (string, error) {
				asked++
				return "", answer
			})
			return code(err)
		}
		for range 100 {
			if c := try(message.NewReply(454, "4.7.0", "Later")); c != 454 {
				t.Fatalf("a deferral: %d", c)
			}
		}
		last := 0
		for asked = 0; last != 421 && asked < 100; {
			last = try(message.NewReply(535, "5.7.8", "No"))
		}
		if last != 421 || asked < maxStrikes || asked > 2*maxStrikes {
			t.Errorf("asked %d times, then %d", asked, last)
		}
	})
}

// TestByPassword: where policies judge, those mechanisms are offered that tell the
// password.
func TestByPassword(t *testing.T) {
	if got := ByPassword(Mechanisms()); len(got) != 2 || got[0] != "PLAIN" || got[1] != "LOGIN" {
		t.Errorf("%v", got)
	}
	if got := ByPassword([]string{scramName}); len(got) != 0 {
		t.Errorf("%v", got)
	}
}
