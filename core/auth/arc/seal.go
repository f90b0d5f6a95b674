package arc

import (
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"strconv"
	"time"

	"github.com/postern-mta/postern/core/auth/dkim"
	"github.com/postern-mta/postern/core/auth/results"
	"github.com/postern-mta/postern/core/message"
)

// Sealer adds sets to messages. It is safe for concurrent use.
type Sealer struct {
	Domain, Selector string
	Private          crypto.Signer // *rsa.PrivateKey or ed25519.PrivateKey
	// Headers are the lower-case names of the fields to sign; nil: those that DKIM
	// signs, and the signatures of others.
	Headers []string
}

func (s *Sealer) algorithm() string {
	if _, ok := s.Private.Public().(ed25519.PublicKey); ok {
		return "ed25519-sha256"
	}
	return "rsa-sha256"
}

// Seal makes the fields of one more set (RFC 8617 section 5.1), whole lines to be put in
// front of the message's other fields: of a message as it is to go out, whose chain came
// in as came tells, and of which found was found out. nil where nothing may be added: the
// chain failed before, or is as long as it may be.
func (s *Sealer) Seal(m *dkim.Message, came *Report, found results.Field, now time.Time) ([]byte, error) {
	list, err := sets(m)
	if err != nil && came.Word == Pass {
		return nil, err
	}
	n := len(list) + 1
	state := came.Word
	switch {
	case err != nil || n > MaxSets:
		return nil, nil // no chain that could go on (section 5.1.2)
	case len(list) > 0 && list[len(list)-1].State == Fail:
		return nil, nil // said already; nobody looks at more
	case len(list) > 0 && state == None:
		state = Fail
	}
	raw := found.Named("ARC-Authentication-Results: i=" + strconv.Itoa(n) + "; ")
	return s.add(m, list, state, message.Field{Name: "ARC-Authentication-Results", Raw: raw}, now)
}

// Again is Seal for another form of a message whose last set, of ours, was old: what was
// found out stands as it was. write writes the message, without that set. nil: old is not
// a set that goes on from the others.
func (s *Sealer) Again(old []byte, write func(io.Writer) error, now time.Time) ([]byte, error) {
	was, err := dkim.Open(message.Bytes(old))
	if err != nil {
		return nil, err
	}
	var seal, found field
	for f := range was.Named(sealName) {
		seal, _, err = read(f, sealName)
	}
	for f := range was.Named(resultsName) {
		found.Field = f
	}
	if err != nil || found.Name == "" || seal.Name == "" {
		return nil, nil
	}
	m, err := dkim.Through(write)
	if err != nil {
		return nil, err
	}
	list, err := sets(m)
	if err != nil || seal.tags.Get("i") != strconv.Itoa(len(list)+1) {
		return nil, nil
	}
	return s.add(m, list, Word(seal.tags.Get("cv")), found.Field, now)
}

// add makes the fields of a set behind those of list: of a chain in that state.
func (s *Sealer) add(m *dkim.Message, list []*set, state Word, found message.Field, now time.Time) (fields []byte, err error) {
	instance := strconv.Itoa(len(list) + 1)
	own := &set{}
	own.results.Field = found
	if own.message.Field, err = s.message(m, instance, now); err != nil {
		return nil, err
	}
	seal := dkim.NewField("ARC-Seal")
	seal.Add("i", instance)
	seal.Add("a", s.algorithm())
	seal.Add("t", strconv.FormatInt(now.Unix(), 10))
	seal.Add("cv", string(state))
	seal.Add("d", s.Domain)
	seal.Add("s", s.Selector)
	h := sha256.New()
	if state != Fail { // of a chain that has failed, the seal covers its own set alone
		writeSets(h, m, list)
	}
	m.WriteField(h, dkim.Relaxed, own.results.Field)
	m.WriteField(h, dkim.Relaxed, own.message.Field)
	field, err := seal.Seal(s.Private, m, h)
	if err != nil {
		return nil, err
	}
	return append(append(field, own.message.Raw...), own.results.Raw...), nil
}

// message makes the signature over the message.
func (s *Sealer) message(m *dkim.Message, instance string, now time.Time) (message.Field, error) {
	sum, _, err := m.BodyHash(dkim.Relaxed, -1)
	if err != nil {
		return message.Field{}, err
	}
	headers := s.Headers
	if headers == nil {
		headers = append(dkim.DefaultHeaders(), "dkim-signature")
	}
	var names []string
	for _, name := range headers {
		for range min(m.Count(name), 50) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		names = []string{"from"} // that it is not there is signed
	}
	f := dkim.NewField("ARC-Message-Signature")
	f.Add("i", instance)
	f.Add("a", s.algorithm())
	f.Add("c", "relaxed/relaxed")
	f.Add("d", s.Domain)
	f.Add("s", s.Selector)
	f.Add("t", strconv.FormatInt(now.Unix(), 10))
	f.AddList("h", names)
	f.Add("bh", base64.StdEncoding.EncodeToString(sum))
	h := sha256.New()
	m.WriteFields(h, dkim.Relaxed, names)
	raw, err := f.Seal(s.Private, m, h)
	return message.Field{Name: "ARC-Message-Signature", Raw: raw}, err
}
