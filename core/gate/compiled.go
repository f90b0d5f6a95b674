package gate

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/postern-mta/postern/core/cdb"
)

// Compile writes the rules as the database that tcprules(1) makes: byte for byte the
// same where the file has nothing that tcprules does not know, and no name in upper case,
// which would never be found. An IPv4 network becomes
// the prefixes or addresses that it holds, most specific networks first. IPv6 rules
// stand under the address, or the network in CIDR notation, which tcpserver of
// ucspi-tcp never looks for, as it has no such clients; `postern tcpserver` does.
//
// The errors are lines that would change their meaning: a network of more than 24
// bits comes to stand before the =NAME rules.
func (r *Rules) Compile(w io.WriteSeeker) ([]RuleError, error) {
	var errs []RuleError
	var late []*Rule
	out := cdb.NewWriter(w)
	for i := range r.list {
		rule := &r.list[i]
		bits := rule.net.Bits()
		switch {
		case !strings.Contains(rule.Text, "/") || rule.net.Addr().Is6() || strings.Contains(rule.Text, "@"):
			out.Add(rule.Text, rule.data())
		case bits > 24 && len(r.names) > 0:
			errs = append(errs, RuleError{rule.Line, fmt.Sprintf("%q would have to become addresses, which come before the =NAME rules of this file; write the addresses, or a network of at most 24 bits", rule.Text)})
		case bits < 32 && bits%8 == 0 && bits > 0:
			out.Add(prefixText(rule.net.Addr(), bits/8), rule.data())
		default:
			late = append(late, rule)
		}
	}
	slices.SortStableFunc(late, func(a, b *Rule) int { return b.net.Bits() - a.net.Bits() })
	for _, rule := range late {
		addExpanded(out, rule)
	}
	return errs, out.Close()
}

// addExpanded adds a rule under each prefix, or address, of the next whole octet.
func addExpanded(out *cdb.Writer, rule *Rule) {
	octets := min(rule.net.Bits()/8, 3)
	b := rule.net.Addr().As4()
	for n := range 1 << (8*(octets+1) - rule.net.Bits()) {
		at := b
		at[octets] += byte(n)
		ip := netip.AddrFrom4(at)
		if octets == 3 {
			out.Add(ip.String(), rule.data())
			continue
		}
		out.Add(prefixText(ip, octets+1), rule.data())
	}
}

// data is the value of a rule: D for deny, + and a variable, each with a NUL.
func (r *Rule) data() string {
	var b strings.Builder
	if r.Deny {
		b.WriteString("D\x00")
	}
	for _, v := range r.Vars {
		b.WriteString("+" + v + "\x00")
	}
	return b.String()
}

// Compiled are rules in a database, of `postern rules compile` or tcprules.
type Compiled struct{ db *cdb.Reader }

// OpenCompiled reads a database; r is asked for as long as the rules are used.
func OpenCompiled(r io.ReaderAt, size int64) (*Compiled, error) {
	db, err := cdb.NewReader(r, size)
	if err != nil {
		return nil, err
	}
	return &Compiled{db}, nil
}

// FindClient is the rule for a client, as Rules.FindClient says; an error means that
// the file can't be read.
func (c *Compiled) FindClient(who Client) (Rule, bool, error) {
	for _, key := range who.keys() {
		v, ok, err := c.db.Find(key)
		if err != nil {
			return Rule{}, false, err
		}
		if ok {
			return readRule(key, v), true, nil
		}
	}
	return Rule{}, false, nil
}

// readRule is the rule of a record.
func readRule(key, data string) Rule {
	rule := Rule{Text: key}
	for {
		item, rest, ok := strings.Cut(data, "\x00")
		if !ok {
			break
		}
		switch data = rest; {
		case item == "":
		case item[0] == 'D':
			rule.Deny = true
		case item[0] == '+':
			rule.Vars = append(rule.Vars, item[1:])
		}
	}
	if len(rule.Vars) > 0 {
		rule.Env = environment(rule.Vars)
	}
	return rule
}

// keys are those that are looked up for a client, in their order.
func (c Client) keys() []string {
	ip, name := c.IP.Unmap().WithZone(""), strings.ToLower(strings.TrimSuffix(c.Name, "."))
	var keys []string
	if c.Info != "" {
		keys = append(keys, c.Info+"@"+ip.String())
		if name != "" {
			keys = append(keys, c.Info+"@="+name)
		}
	}
	keys = append(keys, ip.String())
	if name != "" {
		keys = append(keys, "="+name)
	}
	if ip.Is4() {
		for octets := 3; octets > 0; octets-- {
			keys = append(keys, prefixText(ip, octets))
		}
	} else {
		for bits := ip.BitLen(); bits >= 0; bits-- {
			if net, err := ip.Prefix(bits); err == nil {
				keys = append(keys, net.String())
			}
		}
	}
	if name != "" {
		for i := range name {
			if name[i] == '.' {
				keys = append(keys, "="+name[i:])
			}
		}
		keys = append(keys, "=")
	}
	return append(keys, "")
}

// RuleFile is an open file of rules: in the language, or compiled.
type RuleFile struct {
	rules    *Rules
	compiled *Compiled
	file     *os.File
}

// maxTold bounds the lines of an error: a file that has more is of another kind.
const maxTold = 20

// RuleErrors are the lines of a file that can't be used.
type RuleErrors struct {
	File string
	List []RuleError
}

func (e *RuleErrors) Error() string {
	lines := make([]string, 0, maxTold+1)
	for i, one := range e.List {
		if i == maxTold {
			lines = append(lines, fmt.Sprintf("%s: and %d more lines that can't be used", e.File, len(e.List)-i))
			break
		}
		lines = append(lines, fmt.Sprintf("%s:%d: %s", e.File, one.Line, one.Text))
	}
	return strings.Join(lines, "\n")
}

// OpenRules opens a file of rules for those who ask ident servers, and tells by its
// first bytes whether it is compiled. The error may be a *RuleErrors.
func OpenRules(name string) (*RuleFile, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && info.IsDir() {
		err = fmt.Errorf("%s is a folder", name)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	in := bufio.NewReader(f)
	// A database begins with the place of its first table, which lies behind its head
	// and within the file. As the beginning of a text it would be far beyond its end.
	head, _ := in.Peek(4)
	if len(head) == 4 && slices.Contains(head, 0) {
		c, err := OpenCompiled(f, info.Size())
		if err != nil {
			_ = f.Close()
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		return &RuleFile{compiled: c, file: f}, nil
	}
	defer f.Close()
	rules, errs := ParseRulesFor(in, WithIdent)
	if len(errs) > 0 {
		return nil, &RuleErrors{name, errs}
	}
	return &RuleFile{rules: rules}, nil
}

// FindClient is the rule for a client.
func (f *RuleFile) FindClient(c Client) (Rule, bool, error) {
	if f.compiled != nil {
		return f.compiled.FindClient(c)
	}
	rule, ok := f.rules.FindClient(c)
	return rule, ok, nil
}

// Close ends the use of the file.
func (f *RuleFile) Close() error {
	if f.file == nil {
		return nil
	}
	return f.file.Close()
}

// Rules are the rules of a file in the language; ErrCompiled of another.
func (f *RuleFile) Rules() (*Rules, error) {
	if f.rules == nil {
		return nil, ErrCompiled
	}
	return f.rules, nil
}

// ErrCompiled is a file that is compiled already.
var ErrCompiled = errors.New("these rules are compiled already")
