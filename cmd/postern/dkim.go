package main

import (
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/postern-mta/postern/core/auth/dkim"
	"github.com/postern-mta/postern/core/dns"
)

func dkimCommand(g *global) *cobra.Command {
	c := &cobra.Command{
		Use:   "dkim",
		Short: "Make DKIM keys, and judge signatures (RFC 6376)",
	}
	c.AddCommand(dkimCheckCommand(g), dkimKeygenCommand(g))
	return c
}

type dkimFlags struct {
	verifyFlags
	key     bool
	private string
}

func dkimCheckCommand(g *global) *cobra.Command {
	f := dkimFlags{verifyFlags: verifyFlags{g: g}}
	c := &cobra.Command{
		Use:   "check FILE|- | check --key DOMAIN SELECTOR",
		Short: "Tell what a message's signatures are worth, one by one; or whether a key is published",
		Long: `Verifies each DKIM signature of a message, in a file or from standard input. LF may
end its lines. With --key, looks whether the key record of a domain fits the private
key: of --private, else of the [[dkim]] entry with that domain and selector. The
verdict is then pass, fail (another key is published), permerror (none, or none that
can be used) or temperror.
` + verifyStatus,
		Example: `  postern dkim check message.eml
  postern dkim check --now 2024-05-01 --json - < message.eml
  postern dkim check --key example.net 2026a`,
		Args: func(c *cobra.Command, args []string) error {
			if f.key {
				return expects(2, "DOMAIN and SELECTOR")(c, args)
			}
			return expects(1, "a FILE, or - for standard input")(c, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.key {
				return f.checkKey(cmd.Context(), strings.ToLower(args[0]), args[1])
			}
			return f.checkMessage(cmd.Context(), args[0])
		},
	}
	c.Flags().BoolVar(&f.key, "key", false, "look at a key record, not at a message")
	c.Flags().StringVar(&f.private, "private", "", "with --key: the `FILE` of the private key")
	f.add(c)
	return c
}

func (f *dkimFlags) checkMessage(ctx context.Context, file string) error {
	m, err := readMessage(f.g.std.in, file)
	if err != nil {
		return err
	}
	r, _, err := f.resolver()
	if err != nil {
		return err
	}
	defer r.Close()
	report, err := (&dkim.Verifier{Resolver: r, Now: f.clock}).Check(ctx, m)
	if err != nil {
		return err
	}
	return f.print(f.g.std.out, dkimReport(report))
}

// dkimSignature is a signature of --json.
type dkimSignature struct {
	Verdict   dkim.Word `json:"verdict"`
	Reason    string    `json:"reason,omitempty"`
	Domain    string    `json:"domain,omitempty"`
	Identity  string    `json:"identity,omitempty"`
	Selector  string    `json:"selector,omitempty"`
	Algorithm string    `json:"algorithm,omitempty"`
	KeyBits   int       `json:"key_bits,omitempty"`
	Testing   bool      `json:"testing,omitempty"`
	Canon     string    `json:"canonicalization,omitempty"`
	Fields    []string  `json:"fields,omitempty"`
	Extra     []string  `json:"extra_fields,omitempty"`
	Signed    time.Time `json:"signed,omitzero"`
	Expires   time.Time `json:"expires,omitzero"`
	Length    *int64    `json:"length,omitempty"`
	Unsigned  int64     `json:"unsigned,omitempty"`
	Query     string    `json:"query,omitempty"`
	Record    string    `json:"record,omitempty"`
}

func dkimReport(r *dkim.Report) verdictReport {
	object := struct {
		Verdict    dkim.Word       `json:"verdict"`
		Signatures []dkimSignature `json:"signatures"`
		Left       int             `json:"left,omitempty"`
	}{Verdict: r.Word(), Signatures: []dkimSignature{}, Left: r.Left}
	j := verdictReport{verdict: string(r.Word())}
	for i := range r.Results {
		s := &r.Results[i]
		one := dkimSignature{
			s.Word, s.Reason, s.Domain, s.Identity, s.Selector, s.Algorithm, s.KeyBits, s.Testing, s.Header.String() + "/" + s.Body.String(),
			s.Fields, s.Extra, s.Signed, s.Expires, nil, s.Unsigned, s.Query, s.Record,
		}
		if s.Length >= 0 {
			one.Length = &s.Length
		}
		object.Signatures = append(object.Signatures, one)
		j.steps = append(j.steps, dkimStep(s))
	}
	if r.Left > 0 {
		j.facts = append(j.facts, fact{"not looked at", count(r.Left, "signature") + " more"})
	}
	j.facts = append(j.facts, fact{"passed", strings.Join(r.Passed(), ", ")})
	j.object = object
	return j
}

// dkimStep is a signature as one step.
func dkimStep(s *dkim.Result) verdictStep {
	var what []string
	add := func(name, value string) {
		if value != "" {
			what = append(what, name+"="+value)
		}
	}
	add("d", s.Domain)
	add("s", s.Selector)
	if s.Identity != "@"+s.Domain {
		add("i", s.Identity)
	}
	add("a", s.Algorithm)
	if s.Algorithm != "" {
		add("c", s.Header.String()+"/"+s.Body.String())
	}
	add("h", strings.Join(s.Fields, ":"))
	if s.Length >= 0 {
		add("l", strconv.FormatInt(s.Length, 10))
	}
	for _, at := range []struct {
		name string
		at   time.Time
	}{{"t", s.Signed}, {"x", s.Expires}} {
		if !at.at.IsZero() {
			add(at.name, at.at.Format(time.RFC3339))
		}
	}
	step := verdictStep{what: "signature " + strings.Join(what, " "), outcome: string(s.Word)}
	if s.Reason != "" {
		step.outcome += ": " + s.Reason
	}
	if s.KeyBits > 0 {
		step.outcome += fmt.Sprintf(" (%d-bit key)", s.KeyBits)
	}
	if s.Testing {
		step.outcome += " (the domain is testing: t=y)"
	}
	if len(s.Extra) > 0 {
		step.outcome += " (of these fields not all are signed: " + strings.Join(s.Extra, ", ") + ")"
	}
	if s.Query != "" {
		step.query = "TXT " + s.Query
	}
	if s.Record != "" {
		step.answer = []string{strconv.Quote(s.Record)}
	}
	return step
}

func (f *dkimFlags) checkKey(ctx context.Context, domain, selector string) error {
	if !dkim.ValidDomain(domain) || !dkim.ValidDomain(selector) {
		return usageError{fmt.Errorf("%q and %q are no domain and selector", domain, selector)}
	}
	private, file, err := f.privateKey(domain, selector)
	if err != nil {
		return err
	}
	r, _, err := f.resolver()
	if err != nil {
		return err
	}
	defer r.Close()
	name := dkim.KeyName(selector, domain)
	word, reason, records := judgeRecord(ctx, r, name, private)
	own, err := dkim.Record(private.Public())
	if err != nil {
		return err
	}
	step := verdictStep{what: "key " + file, query: "TXT " + name, outcome: string(word)}
	if reason != "" {
		step.outcome += ": " + reason
	}
	for _, one := range records {
		step.answer = append(step.answer, strconv.Quote(one))
	}
	j := verdictReport{verdict: string(word), steps: []verdictStep{step}, object: map[string]any{
		"verdict": word, "reason": reason, "file": file, "name": name, "records": records, "expected": own,
	}}
	if word != dkim.Pass {
		j.facts = []fact{{"publish", name + " TXT " + own}}
	}
	return f.print(f.g.std.out, j)
}

// privateKey is the key of --private, else that of [[dkim]].
func (f *dkimFlags) privateKey(domain, selector string) (crypto.Signer, string, error) {
	file := f.private
	if file == "" {
		c, err := f.g.settled()
		if err != nil {
			return nil, "", err
		}
		for i := range c.DKIM {
			if d := &c.DKIM[i]; d.Domain == domain && d.Selector == strings.ToLower(selector) {
				file = d.Key
			}
		}
		if file == "" {
			return nil, "", usageError{fmt.Errorf("%s has no [[dkim]] for %s with the selector %s; name the key with --private FILE", name(c), domain, selector)}
		}
	}
	private, err := dkim.LoadKey(file)
	if err != nil {
		return nil, "", errors.New(keyProblem(file, err))
	}
	return private, file, nil
}

// judgeRecord compares what is published with a private key.
func judgeRecord(ctx context.Context, r dns.Resolver, name string, private crypto.Signer) (word dkim.Word, reason string, records []string) {
	records, err := r.LookupTXT(ctx, name)
	switch {
	case err != nil && dns.IsTemporary(err):
		return dkim.TempError, err.Error(), nil
	case err != nil:
		return dkim.PermError, "there is no key at " + name, nil
	}
	word = dkim.PermError
	for _, one := range records {
		k, err := dkim.ParseKey(one)
		switch {
		case err != nil:
			reason = "the record is wrong: " + err.Error()
		case k.Revoked:
			reason = "the key is revoked: p= is empty"
		case !k.SameKey(private):
			word, reason = dkim.Fail, "another key is published"
		default:
			note := ""
			if len(records) > 1 {
				note = "other records stand beside it, and verifiers may take one of them"
			}
			return dkim.Pass, note, records
		}
	}
	return word, reason, records
}

type keygenFlags struct {
	kind, out string
	bits      int
	json      bool
}

func dkimKeygenCommand(g *global) *cobra.Command {
	var f keygenFlags
	c := &cobra.Command{
		Use:   "keygen DOMAIN SELECTOR",
		Short: "Make a private key, and print the DNS record that publishes it",
		Long: `Writes a private key to a file that its owner alone can read, and prints the record
for the zone file of the domain. A file that is there already is left alone.

Exit status: 0 made; 1 the file can't be written; 2 wrong use.`,
		Example: `  postern dkim keygen example.net 2026a
  postern dkim keygen example.net 2026e --type ed25519 --out keys/2026e.pem`,
		Args: cobra.ExactArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			return f.run(g.std, strings.ToLower(args[0]), strings.ToLower(args[1]))
		},
	}
	fl := c.Flags()
	fl.StringVar(&f.kind, "type", "rsa", "`KIND` of key: rsa, which everybody verifies, or ed25519, beside an RSA key")
	fl.IntVar(&f.bits, "bits", 2048, "length of an RSA key, 1024 to 8192")
	fl.StringVar(&f.out, "out", "", "`FILE` of the private key (DOMAIN.SELECTOR.pem)")
	fl.BoolVar(&f.json, "json", false, "print JSON")
	return c
}

func (f *keygenFlags) run(std streams, domain, selector string) error {
	if !dkim.ValidDomain(domain) || !dkim.ValidDomain(selector) {
		return usageError{fmt.Errorf("%q and %q are no domain and selector", domain, selector)}
	}
	key, err := dkim.GenerateKey(f.kind, f.bits)
	if err != nil {
		return usageError{err}
	}
	text, err := dkim.EncodeKey(key)
	if err != nil {
		return err
	}
	record, err := dkim.Record(key.Public())
	if err != nil {
		return err
	}
	file := f.out
	if file == "" {
		file = domain + "." + selector + ".pem"
	}
	if err := writeKey(file, text); err != nil {
		return err
	}
	name := dkim.KeyName(selector, domain)
	if f.json {
		return json.NewEncoder(std.out).Encode(map[string]string{"domain": domain, "selector": selector, "file": file, "name": name, "record": record})
	}
	fmt.Fprintf(std.out, "%s. IN TXT ( %s )\n", name, zoneText(record))
	fmt.Fprintf(std.err, "The private key is in %s. Publish the record above, see with\n\"postern dkim check --key %s %s --private %s\" that it is there, then write:\n\n[[dkim]]\ndomain   = %q\nselector = %q\nkey      = %q\n", file, domain, selector, file, domain, selector, file)
	return nil
}

// writeKey writes a file that was not there, for its owner alone.
func writeKey(file string, text []byte) error {
	w, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("%s is there already, and may sign mail; name another file with --out, or take it away", file)
	}
	if err != nil {
		return err
	}
	_, err = w.Write(text)
	return errors.Join(err, w.Sync(), w.Close())
}

// zoneText is a text as strings of a zone file, each of at most 255 bytes.
func zoneText(s string) string {
	var parts []string
	for part := range slices.Chunk([]byte(s), 255) {
		parts = append(parts, strconv.Quote(string(part)))
	}
	return strings.Join(parts, "\n\t")
}
