package arc

import (
	"cmp"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/postern-mta/postern/core/auth/dkim"
	"github.com/postern-mta/postern/core/dns"
	"github.com/postern-mta/postern/core/message"
)

// scenario is one of the suite's documents.
type scenario struct {
	Description string            `yaml:"description"`
	Tests       yaml.Node         `yaml:"tests"` // two names stand twice, which a map can't have
	TXT         map[string]string `yaml:"txt-records"`
}

// test is a case.
type test struct {
	Message string `yaml:"message"`
	CV      string `yaml:"cv"`
}

func suite(t testing.TB) []scenario {
	t.Helper()
	file := filepath.Join(cmp.Or(os.Getenv("POSTERN_CORPUS"), filepath.Join("..", "..", "..", "..", "shared", "corpus")), "arc", "arc-draft-validation-tests.yml")
	f, err := os.Open(file)
	if err != nil {
		t.Skipf("no samples: %v", err)
	}
	defer f.Close()
	var all []scenario
	for d := yaml.NewDecoder(f); ; {
		var s scenario
		if err := d.Decode(&s); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	return all
}

// The public suite of chain validation: 171 cases.
func TestSuite(t *testing.T) {
	n := 0
	for _, s := range suite(t) {
		zone := &dns.Zone{TXT: map[string][]string{}}
		for name, text := range s.TXT {
			zone.TXT[name] = []string{text}
		}
		// The suite's keys have 1024 bits; a few have 512, which it wants refused.
		v := &dkim.Verifier{Resolver: zone}
		seen := map[string]bool{}
		for i := 0; i < len(s.Tests.Content); i += 2 {
			name := s.Tests.Content[i].Value
			var test test
			if err := s.Tests.Content[i+1].Decode(&test); err != nil {
				t.Fatal(err)
			}
			if !seen[name] {
				n++
			}
			seen[name] = true
			m, err := dkim.Open(message.Bytes(strings.ReplaceAll(test.Message, "\n", "\r\n")))
			if err != nil {
				t.Fatal(err)
			}
			r, err := Verify(t.Context(), v, m)
			if err != nil {
				t.Fatal(err)
			}
			want := Word(strings.ToLower(test.CV))
			if want == "" {
				want = Fail // the chain says itself that it has failed
			}
			if r.Word != want {
				t.Errorf("%s / %s: %s (%s); want %s", s.Description, name, r.Word, r.Reason, want)
			}
			if (r.Reason == "") != (r.Word != Fail) || strings.ContainsAny(r.Reason, "\r\n") {
				t.Errorf("%s: %s with the reason %q", name, r.Word, r.Reason)
			}
		}
	}
	if n != 171 {
		t.Errorf("%d cases, not 171", n)
	}
}
