// Package arc judges and extends the chain of those who handed a message on (ARC, RFC
// 8617): each wrote down what it found out about the sender, and sealed that with all
// that stood there before, so that mail which a forwarder changed can still be trusted
// where the forwarder is.
//
//	arc.go     the sets of a message, and what is wrong with their structure
//	verify.go  Verify: the chain's state
//	seal.go    Sealer: one more set
//
// The work for a message is bounded: 50 sets (section 4.2.1), their keys asked for at
// once and each once, the body hashed as core/auth/dkim does.
package arc

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/postern-mta/postern/core/auth/dkim"
	"github.com/postern-mta/postern/core/message"
)

// Word is the state of a chain (RFC 8617 section 4.4).
type Word string

// The states.
const (
	None Word = "none"
	Pass Word = "pass"
	Fail Word = "fail"
)

// MaxSets is the longest chain.
const MaxSets = 50

// maxField bounds a field of a set.
const maxField = 64 << 10

// Names of the fields, in lower case.
const (
	sealName    = "arc-seal"
	messageName = "arc-message-signature"
	resultsName = "arc-authentication-results"
)

// Set is what one of those who handed the message on added.
type Set struct {
	Instance int
	Domain   string // who sealed
	Selector string
	State    Word   // cv=: the chain as that one found it
	Results  string // its Authentication-Results, without i=
	// Seal and Message are what became of its two signatures; empty: not looked at.
	Seal, Message Step
}

// Step is a signature that was verified.
type Step struct {
	Word      dkim.Word
	Reason    string
	Algorithm string
	Query     string // name of the key record
	Record    string
}

// Report is the state of a message's chain.
type Report struct {
	Word   Word
	Reason string // why it fails
	// Temporary: it fails since a key can't be had now.
	Temporary bool
	Sets      []Set // the first one first; of a chain that is no chain, none
	// OldestPass is the instance of the oldest set whose message signature passes, 0
	// where all do (section 5.2).
	OldestPass int
}

// Sealers are the domains that sealed, the last one first.
func (r *Report) Sealers() []string {
	var list []string
	for i := len(r.Sets) - 1; i >= 0; i-- {
		list = append(list, r.Sets[i].Domain)
	}
	return list
}

// set is a Set with its fields.
type set struct {
	Set
	results, message, seal field
	state                  string
}

// field is one field of a set, read.
type field struct {
	message.Field
	tags dkim.Tags
}

// sets reads the sets of a message, in order; the error says what is wrong with their
// structure (section 5.2 steps 2 and 3).
func sets(m *dkim.Message) ([]*set, error) {
	n := max(m.Count(sealName), m.Count(messageName), m.Count(resultsName))
	if n == 0 {
		return nil, nil
	}
	if n > MaxSets {
		return nil, fmt.Errorf("the chain has %d sets, %d are the limit", n, MaxSets)
	}
	list := make([]*set, n)
	for i := range list {
		list[i] = &set{Set: Set{Instance: i + 1}}
	}
	for _, kind := range [...]struct {
		name string
		into func(*set) *field
	}{
		{resultsName, func(s *set) *field { return &s.results }},
		{messageName, func(s *set) *field { return &s.message }},
		{sealName, func(s *set) *field { return &s.seal }},
	} {
		for f := range m.Named(kind.name) {
			one, i, err := read(f, kind.name)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", f.Name, err)
			}
			if i > n {
				return nil, fmt.Errorf("%s with i=%d, and there are %d sets", f.Name, i, n)
			}
			at := kind.into(list[i-1])
			if at.Name != "" {
				return nil, fmt.Errorf("%s with i=%d stands twice", f.Name, i)
			}
			*at = one
		}
	}
	for _, s := range list {
		if err := s.whole(); err != nil {
			return nil, fmt.Errorf("set %d: %w", s.Instance, err)
		}
	}
	return list, nil
}

// read reads a field and its instance.
func read(f message.Field, name string) (one field, instance int, err error) {
	if len(f.Raw) > maxField {
		return field{}, 0, fmt.Errorf("longer than 64 KiB")
	}
	_, value, _ := strings.Cut(string(f.Raw), ":")
	one = field{Field: f}
	text := ""
	if name == resultsName {
		// i= stands first, and is followed by the value of another field.
		head, _, _ := strings.Cut(value, ";")
		key, number, _ := strings.Cut(head, "=")
		if strings.TrimSpace(key) != "i" {
			return field{}, 0, fmt.Errorf("i= does not stand first")
		}
		text = strings.TrimSpace(number)
	} else {
		if one.tags, err = dkim.ParseTags(value); err != nil {
			return field{}, 0, err
		}
		text = one.tags.Get("i")
	}
	instance, err = strconv.Atoi(text)
	if err != nil || instance < 1 || instance > MaxSets || text != strconv.Itoa(instance) {
		return field{}, 0, fmt.Errorf("i=%.10q is no number from 1 to %d", text, MaxSets)
	}
	return one, instance, nil
}

// whole tells what a set lacks, and fills in what it says.
func (s *set) whole() error {
	for _, f := range [...]struct {
		name string
		got  field
	}{{"ARC-Authentication-Results", s.results}, {"ARC-Message-Signature", s.message}, {"ARC-Seal", s.seal}} {
		if f.got.Name == "" {
			return fmt.Errorf("%s is missing", f.name)
		}
	}
	s.Domain, s.Selector = strings.ToLower(s.seal.tags.Get("d")), s.seal.tags.Get("s")
	s.state = strings.ToLower(s.seal.tags.Get("cv"))
	s.State = Word(s.state)
	_, value, _ := strings.Cut(s.results.Value(), ";")
	s.Results = strings.Join(strings.Fields(value), " ")
	if s.seal.tags.Find("h") != nil { // section 4.1.3
		return fmt.Errorf("the seal has h=")
	}
	for _, one := range [...]struct {
		name string
		field
	}{{"seal", s.seal}, {"message signature", s.message}} {
		name, f, missing := one.name, one.field, ""
		for _, tag := range [...]string{"a", "b", "d", "s"} {
			if f.tags.Get(tag) == "" {
				missing = cmp.Or(missing, tag)
			}
		}
		switch {
		case missing != "":
			return fmt.Errorf("the %s has no %s=", name, missing)
		case !dkim.ValidDomain(f.tags.Get("d")) || !dkim.ValidDomain(f.tags.Get("s")):
			return fmt.Errorf("the %s has a d= or s= that is no name", name)
		}
	}
	if s.message.tags.Get("bh") == "" || s.message.tags.Find("h") == nil {
		return fmt.Errorf("the message signature has no bh= or no h=")
	}
	if slices.Contains(s.signed(), sealName) { // section 4.1.2
		return fmt.Errorf("the message signature signs seals")
	}
	return nil
}

// signed are the fields that the message signature signs.
func (s *set) signed() []string { return dkim.List(strings.ToLower(s.message.tags.Get("h"))) }
