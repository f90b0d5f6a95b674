package main

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/postern-mta/postern/core/auth/dkim"
	"github.com/postern-mta/postern/core/config"
)

// signingKeys reads the keys of [[dkim]]; nil where there are none. What is wrong with a
// file stands at the line that names it.
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
