package srs

import (
	"bufio"
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/postern-mta/postern/core/message"
)

// clock is the day 2W.
var clock = time.Unix(1577836860, 0) // 2020-01-01

func address(t testing.TB, s string) message.Address {
	t.Helper()
	i := strings.LastIndexByte(s, '@')
	if i < 0 {
		return message.Address{Local: s}
	}
	return message.Address{Local: s[:i], Domain: s[i+1:]}
}

func rewriter(t testing.TB, o Options) *Rewriter {
	t.Helper()
	if o.Domain == "" {
		o.Domain = "example.com"
	}
	if o.Secrets == nil {
		o.Secrets = []string{"tops3cr3t"}
	}
	r, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// said is our error for what the vectors say.
var said = map[string]error{
	"Time stamp out of date.":        ErrExpired,
	"Hash invalid in SRS address.":   ErrForged,
	"No timestamp in SRS0 address.":  ErrNoDay,
	"No user in SRS0 address.":       ErrNoUser,
	"Need not rewrite local domain.": nil,
	"No domain.":                     nil,
}

// The queries and answers of another implementation, those that keep no state. A sender at our own domain is not offered to Forward.
func TestVectors(t *testing.T) {
	f, err := os.Open(filepath.Join(cmp.Or(os.Getenv("POSTERN_CORPUS"), filepath.Join("..", "..", "..", "..", "shared", "corpus")), "srs", "cases.tsv"))
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("the public samples are not here; POSTERN_CORPUS names their folder")
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := rewriter(t, Options{})
	n := 0
	for in := bufio.NewScanner(f); in.Scan(); {
		fields := strings.Split(in.Text(), "\t")
		direction, query, _ := strings.Cut(fields[1], " ")
		answer, rest, _ := strings.Cut(fields[2], " ")
		if direction != "forward" && direction != "reverse" {
			continue // of the protocol
		}
		if fields[0] != "STATELESS_QUERIES" && strings.Contains(fields[1]+rest, "=1=") {
			continue // with a database
		}
		n++
		a := address(t, query)
		var got message.Address
		var fault error
		if direction == "reverse" {
			got, fault = r.Reverse(a, clock)
		} else {
			got, fault = r.Forward(a, clock)
		}
		want, known := said[rest]
		switch {
		case answer == "OK" && (fault != nil || got.Local+"@"+got.Domain != rest):
			t.Errorf("%s: %v %v, want %s", fields[1], got, fault, rest)
		case answer == "NOTFOUND" && direction == "reverse" && (!known || !errors.Is(fault, want)):
			t.Errorf("%s: %v %v, want %v", fields[1], got, fault, want)
		case answer == "NOTFOUND" && direction == "forward" && a.Domain == r.Domain() && Is(a.Local) && got != a:
			t.Errorf("%s: %v, want it as it was", fields[1], got)
		case answer == "NOTFOUND" && query == "" && (!got.IsNull() || fault != nil):
			t.Errorf("the null path: %v %v", got, fault)
		}
	}
	if n < 14 {
		t.Errorf("only %d vectors", n)
	}
}

func TestForward(t *testing.T) {
	r := rewriter(t, Options{})
	long := strings.Repeat("x", message.MaxLocal)
	for _, tc := range []struct {
		from, want string
		err        error
	}{
		{"", "", nil},
		{"test@otherdomain.com", "SRS0=vmyz=2W=otherdomain.com=test@example.com", nil},
		{"a b\"c@example.org", "", nil},
		{"SRS0+abc=2W=a.com=u@otherdomain.com", "SRS1=ZQGi=otherdomain.com=+abc=2W=a.com=u@example.com", nil},
		{"srs1-zzzz=first.example=-opaque@second.example", "SRS1=-RC_=first.example=-opaque@example.com", nil},
		{"SRS1=broken@second.example", "", nil},
		{long + "@example.org", "", ErrTooLong},
		{"nobody", "", ErrNoSender},
	} {
		got, err := r.Forward(address(t, tc.from), clock)
		if !errors.Is(err, tc.err) {
			t.Errorf("%s: %v, want %v", tc.from, err, tc.err)
		}
		if err == nil && tc.want != "" && got.Local+"@"+got.Domain != tc.want {
			t.Errorf("%s: %v, want %s", tc.from, got, tc.want)
		}
		if err == nil && !got.IsNull() && !strings.HasPrefix(got.Local, "SRS1") {
			if back, err := r.Reverse(got, clock); err != nil || back != address(t, tc.from) {
				t.Errorf("%v leads back to %v, %v", got, back, err)
			}
		}
	}
}

func TestAges(t *testing.T) {
	r := rewriter(t, Options{MaxAge: 3 * day})
	a := message.Address{Local: "User", Domain: "example.org"}
	made, err := r.Forward(a, clock)
	if err != nil {
		t.Fatal(err)
	}
	for passed, want := range map[int]error{-2: ErrExpired, -1: nil, 0: nil, 3: nil, 4: ErrExpired, 600: ErrExpired, 1024: nil} {
		back, err := r.Reverse(made, clock.Add(time.Duration(passed)*day))
		if !errors.Is(err, want) || err == nil && back != a {
			t.Errorf("after %d days: %v, %v, want %v", passed, back, err, want)
		}
	}
}

func TestRotation(t *testing.T) {
	old, both, fresh := rewriter(t, Options{Secrets: []string{"old"}}), rewriter(t, Options{Secrets: []string{"new", "old"}}), rewriter(t, Options{Secrets: []string{"new"}})
	a := message.Address{Local: "user", Domain: "example.org"}
	before, _ := old.Forward(a, clock)
	if p, err := both.Inspect(before.Local, clock); err != nil || p.Secret != 1 {
		t.Errorf("an address of the old secret: %+v, %v", p, err)
	}
	if _, err := fresh.Reverse(before, clock); !errors.Is(err, ErrForged) {
		t.Errorf("without the old secret: %v", err)
	}
	after, _ := both.Forward(a, clock)
	if back, err := fresh.Reverse(after, clock); err != nil || back != a {
		t.Errorf("the first secret signs: %v, %v", back, err)
	}
}

func TestAlphabets(t *testing.T) {
	std, url := rewriter(t, Options{Base64: true}), rewriter(t, Options{})
	a := message.Address{Local: "hash234", Domain: "somedomain.com"}
	one, _ := std.Forward(a, clock)
	two, _ := url.Forward(a, clock)
	if one.Local != "SRS0=+3/5=2W=somedomain.com=hash234" || two.Local != "SRS0=-3_5=2W=somedomain.com=hash234" {
		t.Errorf("%v, %v", one, two)
	}
	for _, r := range []*Rewriter{std, url} {
		for _, made := range []message.Address{one, two} {
			if back, err := r.Reverse(made, clock); err != nil || back != a {
				t.Errorf("%v: %v, %v", made, back, err)
			}
		}
	}
}

func TestNew(t *testing.T) {
	if _, err := New(Options{}); !errors.Is(err, ErrNoSecrets) {
		t.Error(err)
	}
	if _, err := New(Options{Secrets: []string{"x"}, MaxAge: 600 * day}); err == nil {
		t.Error("an age of 600 days was taken")
	}
}

// What is read never leads anywhere else than it was signed for.
func FuzzReverse(f *testing.F) {
	for _, s := range []string{"SRS0=te87=T7=otherdomain.com=test", "srs0=xjo9=2v=otherdomain.com=test", "SRS1=JIBX=thirddomain.com==opaque+string", "SRS0=====", "SRS1+", "srs0-\xff=\xc3"} {
		f.Add(s)
	}
	r := rewriter(f, Options{})
	f.Fuzz(func(t *testing.T, local string) {
		a := message.Address{Local: local, Domain: "example.com"}
		back, err := r.Reverse(a, clock)
		if err == nil {
			p, _ := r.Inspect(local, clock)
			if p.Secret != 0 || back.Local == "" || back.Domain == "" {
				t.Fatalf("%q: %+v", local, p)
			}
		}
		from := message.Address{Local: local, Domain: "example.org"}
		made, err := r.Forward(from, clock)
		if err != nil || made.IsNull() {
			return
		}
		if back, err = r.Reverse(made, clock); err != nil {
			t.Fatalf("%v: made %v, which is refused: %v", from, made, err)
		}
		if form, _ := split(local); form == "" && back != from {
			t.Fatalf("%v: made %v, which leads to %v", from, made, back)
		}
	})
}
