package config

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

// This file holds what happens to the senders of mail that goes out: [srs] and [batv].

// SRS is the [srs] section.
type SRS struct {
	Domain      string // the host name where none is set
	SecretFile  string // absolute; empty: nothing is rewritten, and nothing that was is known
	MaxAge      time.Duration
	Alphabet    string // "url" or "base64"
	BouncesOnly bool

	Secrets []string `json:"-"` // of SecretFile; the first signs
}

// BATV is the [batv] section.
type BATV struct {
	Domain     []string // as Route.ToDomain
	SecretFile string   // absolute; empty: nothing is tagged
	MaxAge     time.Duration
	Require    bool

	Keys []BATVKey `json:"-"` // of SecretFile; the first signs
}

// BATVKey is one line of the file of keys.
type BATVKey struct {
	ID     int // 0 to 9
	Secret string
}

func srsKeys() section[SRS] {
	return section[SRS]{
		name: "srs", doc: "How senders of forwarded mail are rewritten by the Sender Rewriting Scheme, on the routes that have `srs = true`, and bounces find their way back; see [docs/forwarding.md](forwarding.md).",
		rows: []row[SRS]{
			{"domain", to(domain(), func(s *SRS) *string { return &s.Domain }), computed("the host name"), "domain of rewritten senders; its mail exchanger must be this server, and its SPF record must name it"},
			{"secret_file", to(path(), func(s *SRS) *string { return &s.SecretFile }), "", "file with a secret a line, read at a start or reload: the first one signs, all are good in bounces. Empty: no sender is rewritten"},
			{"max_age", to(duration(24*time.Hour), func(s *SRS) *time.Duration { return &s.MaxAge }), "21d", "how long a rewritten address takes mail, in whole days, at most 511"},
			{"alphabet", to(enum(options{now: []string{"url", "base64"}}), func(s *SRS) *string { return &s.Alphabet }), "url", "of the hash: `url` has - and _, `base64` + and / in their place, which postsrsd before version 2 wants; both are good in bounces"},
			{"bounces_only", to(boolean(), func(s *SRS) *bool { return &s.BouncesOnly }), false, "whether rewritten addresses take mail from the null sender alone, and none from people and programs that answer to a Return-Path"},
		},
	}
}

func batvKeys() section[BATV] {
	return section[BATV]{
		name: "batv", doc: "Bounce Address Tag Validation: mail that authenticated and relaying clients send from these domains to others gets a sender with a tag, so that bounces of other mail can be told; see [docs/forwarding.md](forwarding.md).",
		rows: []row[BATV]{
			{"domain", to(patterns(), func(b *BATV) *[]string { return &b.Domain }), nil, "domains of senders, as `to_domain` of a route"},
			{"secret_file", to(path(), func(b *BATV) *string { return &b.SecretFile }), "", "file with a key a line: its number, 0 to 9, and its secret, such as `0 correct-horse`; read at a start or reload. The first one signs, all are good in bounces. Empty: nothing is tagged"},
			{"max_age", to(duration(24*time.Hour), func(b *BATV) *time.Duration { return &b.MaxAge }), "7d", "how long a tag counts, in whole days, at most 499"},
			{"require", to(boolean(), func(b *BATV) *bool { return &b.Require }), false, "whether mail from the null sender to these domains is refused where the address has no tag; postmaster takes it"},
		},
	}
}

// maxSecrets bounds the lines of a file of secrets.
const maxSecrets = 100

// secrets reads the files of [srs] and [batv]. What stands in them is in no message.
func (l *loader) secrets(c *Config) {
	read := func(key, file string, take func(line string) error) {
		if file == "" {
			return
		}
		p := c.Problem(key, "")
		v := value{load: l, file: p.File, node: &node{line: p.Line}, key: key}
		n := 0
		before := len(l.problems)
		l.list(v, file, func(line string) error {
			if n++; n > maxSecrets {
				return fmt.Errorf("more than %d secrets; take old ones out", maxSecrets)
			}
			return take(line)
		})
		if n == 0 && len(l.problems) == before {
			v.fail("%s holds no secret; write one into it, such as 32 random letters", file)
		}
		if st, err := os.Stat(file); err == nil && st.Mode().Perm()&0o004 != 0 {
			p.Text, p.Warning = fmt.Sprintf("%s can be read by everyone on this machine; chmod o-r it", file), true
			l.problems = append(l.problems, p)
		}
	}
	read("srs.secret_file", c.SRS.SecretFile, func(line string) error {
		c.SRS.Secrets = append(c.SRS.Secrets, line)
		return nil
	})
	seen := map[int]bool{}
	read("batv.secret_file", c.BATV.SecretFile, func(line string) error {
		id, secret, ok := strings.Cut(line, " ")
		if secret = strings.TrimSpace(secret); !ok || len(id) != 1 || id[0] < '0' || id[0] > '9' || secret == "" {
			return errors.New("is no key; write its number, 0 to 9, a space, and its secret")
		}
		k := BATVKey{int(id[0] - '0'), secret}
		if seen[k.ID] {
			return fmt.Errorf("the number %d stands twice; write another", k.ID)
		}
		seen[k.ID] = true
		c.BATV.Keys = append(c.BATV.Keys, k)
		return nil
	})
}

// checkReturns looks whether senders are rewritten by something, and by what bounces find back.
func checkReturns(c *Config) (found Problems) {
	for i := range c.Routes {
		r := &c.Routes[i]
		if !r.SRS {
			continue
		}
		switch {
		case r.NextHop.Scheme == "local" || r.NextHop.Scheme == "pipe" || r.NextHop.Scheme == "discard":
			found = append(found, r.Problem("srs", fmt.Sprintf("nothing is forwarded there: next_hop is %q; leave it out", r.NextHop.Scheme)))
		case c.SRS.SecretFile == "":
			found = append(found, r.Problem("srs", `needs a secret; write a section [srs] with secret_file = "srs.secret"`))
		}
	}
	for _, age := range []struct {
		key  string
		is   time.Duration
		most int
	}{{"srs.max_age", c.SRS.MaxAge, 511}, {"batv.max_age", c.BATV.MaxAge, 499}} {
		if age.is > time.Duration(age.most)*24*time.Hour {
			found = append(found, c.Problem(age.key, fmt.Sprintf("an address tells no more than %d days apart; write at most %q", age.most, fmt.Sprint(age.most, "d"))))
		}
	}
	switch {
	case c.BATV.SecretFile == "" && len(c.BATV.Domain) > 0:
		found = append(found, c.Problem("batv.secret_file", `missing; write secret_file = "batv.keys"`))
	case c.BATV.SecretFile != "" && len(c.BATV.Domain) == 0:
		found = append(found, c.Problem("batv.domain", `missing; write domain = ["example.net"]`))
	}
	return found
}
