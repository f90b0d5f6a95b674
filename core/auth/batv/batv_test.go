package batv

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/postern-mta/postern/core/message"
)

var clock = time.Unix(1577836860, 0) // 2020-01-01, day 18262

func tagger(t testing.TB, maxAge time.Duration, keys ...Key) *Tagger {
	t.Helper()
	g, err := New(keys, maxAge)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// The same as HMAC-SHA1("secret", "0269user@example.net") begins with.
func TestSign(t *testing.T) {
	g := tagger(t, 0, Key{0, "secret"})
	a := message.Address{Local: "user", Domain: "example.net"}
	tagged, err := g.Sign(a, clock)
	if want := "prvs=0269ec810b=user@example.net"; err != nil || tagged.String() != want {
		t.Errorf("%v, %v, want %s", tagged, err, want)
	}
	if again, err := g.Sign(tagged, clock); err != nil || again != tagged {
		t.Errorf("signed again: %v, %v", again, err)
	}
	if null, err := g.Sign(message.Address{}, clock); err != nil || !null.IsNull() {
		t.Errorf("the null path: %v, %v", null, err)
	}
	if _, err := g.Sign(message.Address{Local: "user"}, clock); !errors.Is(err, ErrSender) {
		t.Errorf("without a domain: %v", err)
	}
	if _, err := g.Sign(message.Address{Local: strings.Repeat("x", message.MaxLocal), Domain: "example.net"}, clock); !errors.Is(err, ErrTooLong) {
		t.Errorf("a long one: %v", err)
	}
}

func TestCheck(t *testing.T) {
	g := tagger(t, 7*day, Key{3, "new"}, Key{1, "old"})
	a := message.Address{Local: "User.Name", Domain: "example.net"}
	fresh, _ := g.Sign(a, clock)
	old, _ := tagger(t, 7*day, Key{1, "old"}).Sign(a, clock)
	foreign, _ := tagger(t, 7*day, Key{3, "other"}).Sign(a, clock)
	unknown, _ := tagger(t, 7*day, Key{7, "new"}).Sign(a, clock)
	lower := message.Address{Local: strings.ToLower(fresh.Local), Domain: a.Domain}
	elsewhere := message.Address{Local: fresh.Local, Domain: "example.org"}
	other := message.Address{Local: strings.Replace(fresh.Local, "User", "Peter", 1), Domain: a.Domain}
	for _, tc := range []struct {
		what string
		a    message.Address
		days int
		want error
	}{
		{"a fresh tag", fresh, 0, nil},
		{"on its last day", fresh, 7, nil},
		{"after it", fresh, 8, ErrExpired},
		{"a year after it", fresh, 365, ErrExpired},
		{"by a clock that was a day behind", fresh, -1, nil},
		{"from the future", fresh, -2, ErrExpired},
		{"of an older key", old, 0, nil},
		{"of somebody else's key", foreign, 0, ErrForged},
		{"of a key that is not there", unknown, 0, ErrForged},
		{"in lower case", lower, 0, nil},
		{"of another domain", elsewhere, 0, ErrForged},
		{"of another user", other, 0, ErrForged},
		{"none", a, 0, ErrNoTag},
		{"too short", message.Address{Local: "prvs=326912345=user", Domain: "example.net"}, 0, ErrNoTag},
		{"no user", message.Address{Local: "prvs=3269123456=", Domain: "example.net"}, 0, ErrNoTag},
		{"no digits", message.Address{Local: "prvs=3a69123456=user", Domain: "example.net"}, 0, ErrNoTag},
	} {
		got, err := g.Check(tc.a, clock.Add(time.Duration(tc.days)*day))
		if !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", tc.what, err, tc.want)
		}
		if err == nil && !strings.EqualFold(got.String(), a.String()) {
			t.Errorf("%s: leads to %v", tc.what, got)
		}
	}
	if last := g.Last(fresh.Local, clock); !last.Equal(time.Date(2020, 1, 9, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("it counts until %v", last)
	}
}

func TestNew(t *testing.T) {
	for what, keys := range map[string][]Key{"no key": nil, "a number of two digits": {{10, "x"}}, "one number twice": {{1, "x"}, {1, "y"}}} {
		if _, err := New(keys, 0); err == nil {
			t.Errorf("%s was taken", what)
		}
	}
	for _, age := range []time.Duration{time.Hour, 500 * day} {
		if _, err := New([]Key{{0, "x"}}, age); err == nil {
			t.Errorf("an age of %v was taken", age)
		}
	}
}

// Nothing that was not signed passes, and what was signed leads back.
func FuzzCheck(f *testing.F) {
	for _, s := range []string{"prvs=0269123456=user", "PRVS=0269abcdef=user", "prvs=0269=", "prvs==", "user", "prvs=026912345\xff=u"} {
		f.Add(s)
	}
	g := tagger(f, 0, Key{0, "secret"})
	f.Fuzz(func(t *testing.T, local string) {
		a := message.Address{Local: local, Domain: "example.net"}
		if plain, err := g.Check(a, clock); err == nil && plain == a {
			t.Fatalf("%q passes without a tag", local)
		}
		tagged, err := g.Sign(a, clock)
		if err != nil || tagged.IsNull() || tagged == a {
			return
		}
		if back, err := g.Check(tagged, clock); err != nil || back != a {
			t.Fatalf("%q: signed as %v, which leads to %v, %v", local, tagged, back, err)
		}
	})
}
