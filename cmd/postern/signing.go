package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/postern-mta/postern/core/auth/arc"
	"github.com/postern-mta/postern/core/auth/dkim"
	"github.com/postern-mta/postern/core/auth/results"
	"github.com/postern-mta/postern/core/config"
	"github.com/postern-mta/postern/core/dns"
	"github.com/postern-mta/postern/core/intake"
	"github.com/postern-mta/postern/core/lookup"
	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/send"
)

// signing is what signs and seals.
type signing struct {
	keys   *dkim.Keyring // nil: nothing is signed
	sealer *arc.Sealer   // nil: nothing is sealed
}

// readSigning reads the keys of [[dkim]] and [arc]. What is wrong with a file stands at
// the line that names it.
func readSigning(c *config.Config) (s signing, problems config.Problems) {
	s.keys, problems = signingKeys(c)
	if c.ARC.Key == "" {
		return s, problems
	}
	private, err := dkim.LoadKey(c.ARC.Key)
	if err != nil {
		return s, append(problems, c.Problem("arc.key", keyProblem(c.ARC.Key, err)))
	}
	s.sealer = &arc.Sealer{Domain: c.ARC.Domain, Selector: c.ARC.Selector, Private: private}
	return s, problems
}

// settings are those of the daemon, which signs; tests and replays don't.
func (s signing) settings(c *config.Config, r dns.Resolver, maps lookup.Getter) intake.Settings {
	set := intakeSettings(c, maps)
	if s.keys != nil {
		set.Sign = func(sender message.Address, m message.Body, now time.Time) ([]byte, error) {
			return s.keys.Sign(m, sender, now)
		}
	}
	if s.sealer == nil {
		return set
	}
	v := &dkim.Verifier{Resolver: r}
	set.Chain = func(ctx context.Context, m message.Body) any {
		opened, err := dkim.Open(m)
		if err != nil {
			return err
		}
		report, err := arc.Verify(ctx, v, opened)
		if err != nil {
			return err
		}
		return report
	}
	set.Seal = func(came any, m message.Body, found results.Field, now time.Time) ([]byte, error) {
		report, ok := came.(*arc.Report)
		if !ok || report.Temporary {
			return nil, nil // what the chain was is not known, and must not be said
		}
		opened, err := dkim.Open(m)
		if err != nil {
			return nil, err
		}
		return s.sealer.Seal(opened, report, found, now)
	}
	return set
}

// sending is the settings of a sender that signs copies of single recipients.
func (s signing) sending(c *config.Config) send.Config {
	conf := sendConfig(c)
	conf.Again = s.again
	return conf
}

// again signs or seals another form of a message as the one that old were of.
func (s signing) again(old []byte, write func(io.Writer) error, now time.Time) ([]byte, error) {
	switch sealed := bytes.HasPrefix(old, []byte("ARC-")); {
	case sealed && s.sealer != nil:
		return s.sealer.Again(old, write, now)
	case !sealed && s.keys != nil:
		return s.keys.Again(old, write, now)
	}
	return nil, nil
}

// signingKeys reads the keys of [[dkim]]; nil where there are none.
func signingKeys(c *config.Config) (*dkim.Keyring, config.Problems) {
	var keys []*dkim.SigningKey
	var problems config.Problems
	for i := range c.DKIM {
		d := &c.DKIM[i]
		if d.Key == "" {
			continue // config.Load told of it
		}
		private, err := dkim.LoadKey(d.Key)
		if err != nil {
			problems = append(problems, d.Problem("key", keyProblem(d.Key, err)))
			continue
		}
		keys = append(keys, &dkim.SigningKey{
			Domain: d.Domain, Selector: d.Selector, Private: private, Headers: d.Headers, Expire: d.Expire, From: d.From, Until: d.Until,
		})
	}
	if len(keys) == 0 {
		return nil, problems
	}
	return dkim.NewKeyring(keys), append(problems, silentDomains(c, time.Now())...)
}

// keyProblem says what is wrong with the file of a private key.
func keyProblem(file string, err error) string {
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		return fmt.Sprintf("%s can't be read: %v; write the path of a private key, such as postern dkim keygen makes", file, path.Err)
	}
	return fmt.Sprintf("%s can't be used: %v", file, err)
}

// silentDomains warns of domains none of whose keys signs now: a gap between until and
// from, or a key that ran out.
func silentDomains(c *config.Config, now time.Time) (problems config.Problems) {
	last := map[string]*config.DKIM{}
	active := map[string]bool{}
	for i := range c.DKIM {
		d := &c.DKIM[i]
		last[d.Domain] = d
		active[d.Domain] = active[d.Domain] || !now.Before(d.From) && (d.Until.IsZero() || now.Before(d.Until))
	}
	for i := range c.DKIM {
		d := &c.DKIM[i]
		if last[d.Domain] != d || active[d.Domain] {
			continue
		}
		key := "until"
		if d.Until.IsZero() || now.Before(d.From) {
			key = "from"
		}
		p := d.Problem(key, fmt.Sprintf("no key signs mail of %s now; write dates without a gap between them", d.Domain))
		p.Warning = true
		problems = append(problems, p)
	}
	return problems
}
