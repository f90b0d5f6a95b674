package spf

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/postern-mta/postern/core/dns"
)

// scenario is a document of the test suite of RFC 7208.
type scenario struct {
	Description string
	Tests       map[string]struct {
		Helo, Host, MailFrom string
		Result               any // one, or a list of those allowed
		Explanation          string
	}
	Zonedata map[string][]any
}

// suite reads the published test suite; the test is skipped where it is absent.
func suite(t testing.TB) []scenario {
	t.Helper()
	file := filepath.Join(cmp.Or(os.Getenv("POSTERN_CORPUS"), filepath.Join("..", "..", "..", "..", "shared", "corpus")), "spf", "rfc7208-tests.yml")
	f, err := os.Open(file)
	if err != nil {
		t.Skipf("the test suite of RFC 7208 is not here: %v", err)
	}
	defer f.Close()
	var list []scenario
	for d := yaml.NewDecoder(f); ; {
		var s scenario
		switch err := d.Decode(&s); {
		case errors.Is(err, io.EOF):
			return list
		case err != nil:
			t.Fatal(err)
		}
		list = append(list, s)
	}
}

// zone turns the data of a scenario into a Zone. SPF entries are served as TXT
// where the name has no TXT entry of its own.
func (s scenario) zone(t testing.TB) *dns.Zone {
	t.Helper()
	z := &dns.Zone{A: map[string][]string{}, MX: map[string][]string{}, TXT: map[string][]string{}, PTR: map[string][]string{}, CNAME: map[string]string{}, Fail: map[string]dns.Kind{}}
	for name, entries := range s.Zonedata {
		if _, err := dns.Canonical(name); err != nil {
			continue // no server can be asked for it
		}
		declared, own := false, false
		for _, e := range entries {
			if m, ok := e.(map[string]any); ok && m["TXT"] != nil {
				declared, own = true, m["TXT"] != "NONE"
			}
		}
		for _, e := range entries {
			if e == "TIMEOUT" {
				if !own { // of types that it has no entry for
					z.Fail[name] = dns.Timeout
				}
				continue
			}
			for kind, v := range e.(map[string]any) {
				if v == "TIMEOUT" {
					z.Fail[strings.Replace(kind, "SPF", "TXT", 1)+" "+name] = dns.Timeout
					continue
				}
				put(t, z, kind, name, v, declared)
			}
		}
	}
	return z
}

func put(t testing.TB, z *dns.Zone, kind, name string, v any, declared bool) {
	switch kind {
	case "A", "AAAA":
		z.A[name] = append(z.A[name], v.(string))
	case "MX":
		pair := v.([]any)
		host := pair[1].(string)
		z.MX[name] = append(z.MX[name], fmt.Sprint(pair[0], " ", cmp.Or(host, ".")))
	case "TXT", "SPF":
		if kind == "SPF" && declared || v == "NONE" {
			return
		}
		text := ""
		if list, ok := v.([]any); ok {
			for _, part := range list {
				text += part.(string)
			}
		} else {
			text = v.(string)
		}
		// The suite means bytes: what YAML reads as a code point below 256 is one.
		raw := make([]byte, 0, len(text))
		for _, r := range text {
			raw = append(raw, byte(r))
		}
		z.TXT[name] = append(z.TXT[name], string(raw))
	case "PTR":
		ip, ok := reverseAddr(name)
		if !ok {
			t.Fatalf("%s is no reverse name", name)
		}
		z.PTR[ip] = append(z.PTR[ip], v.(string))
	case "CNAME":
		z.CNAME[name] = v.(string)
	default:
		t.Fatalf("a record of type %s", kind)
	}
}

// reverseAddr is the address of a reverse name.
func reverseAddr(name string) (string, bool) {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if rest, ok := strings.CutSuffix(name, ".in-addr.arpa"); ok {
		parts := strings.Split(rest, ".")
		slices.Reverse(parts)
		return strings.Join(parts, "."), true
	}
	rest, ok := strings.CutSuffix(name, ".ip6.arpa")
	nibbles := strings.Split(rest, ".")
	slices.Reverse(nibbles)
	var b strings.Builder
	for i, n := range nibbles {
		if i > 0 && i%4 == 0 {
			b.WriteByte(':')
		}
		b.WriteString(n)
	}
	addr, err := netip.ParseAddr(b.String())
	return addr.String(), ok && err == nil
}

// TestSuite runs the whole suite. The result must be one of those that a case allows.
func TestSuite(t *testing.T) {
	runSuite(t, func(_ testing.TB, z *dns.Zone) dns.Resolver { return z })
}

// TestSuiteByServer is the same with a name server between: names and records go over
// the wire.
func TestSuiteByServer(t *testing.T) {
	if testing.Short() {
		t.Skip("a dozen time-outs")
	}
	runSuite(t, func(t testing.TB, z *dns.Zone) dns.Resolver {
		server, err := z.Listen("127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		var running sync.WaitGroup
		running.Go(func() { _ = server.Serve(ctx) })
		client, err := dns.New(dns.Options{Servers: []string{server.Addr().String()}, Timeout: 500 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = client.Close()
			cancel()
			running.Wait()
		})
		return client
	})
}

func runSuite(t *testing.T, resolver func(testing.TB, *dns.Zone) dns.Resolver) {
	count := 0
	for _, s := range suite(t) {
		z := resolver(t, s.zone(t))
		for name, c := range s.Tests {
			count++
			t.Run(s.Description+"/"+name, func(t *testing.T) {
				at := strings.LastIndexByte(c.MailFrom, '@')
				by := Client{IP: netip.MustParseAddr(c.Host), Helo: c.Helo, Local: c.MailFrom[:max(at, 0)], Domain: c.MailFrom[at+1:]}
				checker := &Checker{Resolver: z}
				got := checker.Check(t.Context(), by)
				want := []string{fmt.Sprint(c.Result)}
				if list, ok := c.Result.([]any); ok {
					want = want[:0]
					for _, v := range list {
						want = append(want, fmt.Sprint(v))
					}
				}
				if !slices.Contains(want, string(got.Verdict)) {
					t.Errorf("%s, want %v (%s)", got.Verdict, want, got.Problem)
				}
				explanation := c.Explanation
				if explanation == "DEFAULT" {
					explanation = ""
				}
				if c.Explanation != "" && got.Explanation != explanation {
					t.Errorf("explanation %q, want %q", got.Explanation, c.Explanation)
				}
				if t.Failed() {
					for _, step := range got.Steps {
						t.Logf("%+v", step)
					}
				}
			})
		}
	}
	if count != 203 {
		t.Errorf("%d cases, want 203", count)
	}
}
