package dkim

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net/mail"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/postern-mta/postern/core/message"
)

// SigningKey signs for one domain. It is not changed once it is in a Keyring.
type SigningKey struct {
	Domain   string // d=, lower-case
	Selector string
	Private  crypto.Signer // *rsa.PrivateKey or ed25519.PrivateKey
	// Headers are the lower-case names of the fields to sign; nil: DefaultHeaders.
	// From is signed in any case.
	Headers []string
	Expire  time.Duration // 0: never
	// From and Until are when the key signs; zero: always.
	From, Until time.Time
}

// Algorithm is a= of its signatures.
func (k *SigningKey) Algorithm() string {
	if _, ok := k.Private.Public().(ed25519.PublicKey); ok {
		return "ed25519-sha256"
	}
	return "rsa-sha256"
}

// Active tells whether the key signs at that time.
func (k *SigningKey) Active(now time.Time) bool {
	return !now.Before(k.From) && (k.Until.IsZero() || now.Before(k.Until))
}

// DefaultHeaders are the fields that are signed where nothing else is said (RFC 6376
// section 5.4.1).
func DefaultHeaders() []string {
	return []string{
		"from", "to", "cc", "subject", "date", "reply-to", "message-id", "in-reply-to", "references",
		"mime-version", "content-type", "content-transfer-encoding", "content-id", "content-description", "content-disposition",
		"sender", "resent-from", "resent-sender", "resent-to", "resent-cc", "resent-date", "resent-message-id",
		"list-id", "list-help", "list-unsubscribe", "list-unsubscribe-post", "list-subscribe", "list-post", "list-owner", "list-archive",
		"auto-submitted", "feedback-id",
	}
}

// oversigned fields are signed once more than they are there, so that nobody can add
// one (RFC 6376 section 5.4.2). Fields that forwarders rightly add are not among them.
var oversigned = [...]string{"from", "to", "cc", "subject", "date", "reply-to", "message-id", "in-reply-to", "references", "mime-version", "content-type", "content-transfer-encoding"}

// maxInstances bounds how many fields of one name are signed: those at the end.
const maxInstances = 50

// Keyring knows who signs what. It is safe for concurrent use.
type Keyring struct {
	keys map[string][]*SigningKey // by domain
}

// NewKeyring makes a keyring. A message is signed with all keys of its domain that are
// active, in their order.
func NewKeyring(keys []*SigningKey) *Keyring {
	k := &Keyring{keys: map[string][]*SigningKey{}}
	for _, one := range keys {
		k.keys[ascii(one.Domain)] = append(k.keys[ascii(one.Domain)], one)
	}
	return k
}

// For are the keys that sign mail of a domain at that time: its own, or those of the
// nearest domain above it, which DMARC takes for the same in its relaxed mode.
func (k *Keyring) For(domain string, now time.Time) []*SigningKey {
	if k == nil {
		return nil
	}
	for domain = ascii(domain); domain != ""; {
		var active []*SigningKey
		for _, one := range k.keys[domain] {
			if one.Active(now) {
				active = append(active, one)
			}
		}
		if active != nil {
			return active
		}
		_, domain, _ = strings.Cut(domain, ".")
	}
	return nil
}

// Sign makes the DKIM-Signature fields for a message that is to leave as it is: whole
// lines, to be put in front of its other fields. The domain is that of its From field,
// or, where that has no key, the sender's. nil: it has no key either, or the message has
// not one From field.
func (k *Keyring) Sign(m message.Body, sender message.Address, now time.Time) ([]byte, error) {
	if k == nil || len(k.keys) == 0 {
		return nil, nil
	}
	opened, err := Open(m)
	if err != nil {
		return nil, err
	}
	return k.SignMessage(opened, sender, now)
}

// SignMessage is Sign for a message that is open already.
func (k *Keyring) SignMessage(m *Message, sender message.Address, now time.Time) ([]byte, error) {
	if m.Count("from") != 1 { // nobody could tell whose it is
		return nil, nil
	}
	keys := k.For(m.author(), now)
	if keys == nil {
		keys = k.For(sender.Domain, now)
	}
	return signAll(keys, m, now)
}

// Again is Sign for another form of a message whose signatures of ours were old: with the
// keys of the same domain that are active now. nil: there is none. write writes the
// message, without those signatures.
func (k *Keyring) Again(old []byte, write func(io.Writer) error, now time.Time) ([]byte, error) {
	for f := range message.FieldsOf(old) {
		s, _ := parseSignature(f)
		keys := k.For(s.Domain, now)
		if keys == nil {
			continue
		}
		m, err := Through(write)
		if err != nil {
			return nil, err
		}
		if m.Count("from") != 1 {
			return nil, nil
		}
		return signAll(keys, m, now)
	}
	return nil, nil
}

func signAll(keys []*SigningKey, m *Message, now time.Time) ([]byte, error) {
	var all []byte
	for _, key := range keys {
		field, err := key.sign(m, now)
		if err != nil {
			return nil, fmt.Errorf("sign for %s with %s: %w", key.Domain, key.Selector, err)
		}
		all = append(all, field...)
	}
	return all, nil
}

// author is the domain of the only address in the only From field, else "".
func (m *Message) author() string {
	if m.Count("from") != 1 {
		return ""
	}
	for f := range m.Named("from") {
		list, err := mail.ParseAddressList(f.Value())
		if err != nil || len(list) != 1 {
			return ""
		}
		return list[0].Address[strings.LastIndexByte(list[0].Address, '@')+1:]
	}
	return ""
}

// fieldsFor is h= for a message.
func (k *SigningKey) fieldsFor(m *Message) []string {
	names := k.Headers
	if names == nil {
		names = DefaultHeaders()
	}
	var list []string
	if !slices.Contains(names, "from") {
		names = append([]string{"from"}, names...)
	}
	for _, name := range names {
		n := min(m.Count(name), maxInstances)
		if slices.Contains(oversigned[:], name) {
			n++
		}
		for range n {
			list = append(list, name)
		}
	}
	return list
}

// sign makes one field, in relaxed form of both.
func (k *SigningKey) sign(m *Message, now time.Time) ([]byte, error) {
	sum, _, err := m.BodyHash(Relaxed, -1)
	if err != nil {
		return nil, err
	}
	names := k.fieldsFor(m)
	f := NewField("DKIM-Signature")
	f.Add("v", "1")
	f.Add("a", k.Algorithm())
	f.Add("c", "relaxed/relaxed")
	f.Add("d", k.Domain)
	f.Add("s", k.Selector)
	f.Add("t", strconv.FormatInt(now.Unix(), 10))
	if k.Expire > 0 {
		f.Add("x", strconv.FormatInt(now.Add(k.Expire).Unix(), 10))
	}
	f.AddList("h", names)
	f.Add("bh", base64.StdEncoding.EncodeToString(sum))
	h := sha256.New()
	m.WriteFields(h, Relaxed, names)
	return f.Seal(k.Private, m, h)
}

// SignSum signs what has the SHA-256 sum digest.
func SignSum(key crypto.Signer, digest []byte) ([]byte, error) {
	if _, ok := key.(*rsa.PrivateKey); ok {
		return key.Sign(rand.Reader, digest, crypto.SHA256)
	}
	return key.Sign(rand.Reader, digest, crypto.Hash(0)) // RFC 8463 section 3
}

// Field is a field of tags as it is written, folded.
type Field struct {
	name string
	b    []byte
	line int // where the last line began
}

// maxFold is how long lines become.
const maxFold = 76

// NewField begins a field.
func NewField(name string) *Field {
	return &Field{name: name, b: []byte(name + ":")}
}

// Add adds a tag.
func (f *Field) Add(name, value string) {
	f.word(name+"="+value+";", " ")
}

// AddList adds a tag of several names with colons between them.
func (f *Field) AddList(name string, list []string) {
	for i, one := range list {
		end, sep := ":", ""
		if i == 0 {
			one, sep = name+"="+one, " "
		}
		if i == len(list)-1 {
			end = ";"
		}
		f.word(one+end, sep)
	}
}

func (f *Field) word(text, sep string) {
	if len(f.b)-f.line+len(sep)+len(text) > maxFold {
		f.b = append(f.b, "\r\n\t"...)
		f.line = len(f.b) - 1
	} else {
		f.b = append(f.b, sep...)
	}
	f.b = append(f.b, text...)
}

// Seal adds b=, the signature of what was written to h and of the field itself, and
// returns the field with its line end.
func (f *Field) Seal(key crypto.Signer, m *Message, h interface {
	Write(p []byte) (int, error)
	Sum(b []byte) []byte
},
) ([]byte, error) {
	f.word("b=", " ")
	m.scratch = Relaxed.AppendField(m.scratch[:0], message.Field{Name: f.name, Raw: f.b})
	_, _ = h.Write(m.scratch[:len(m.scratch)-2]) // a hash takes everything
	sig, err := SignSum(key, h.Sum(nil))
	if err != nil {
		return nil, err
	}
	text := base64.StdEncoding.EncodeToString(sig)
	for text != "" {
		n := min(len(text), maxFold-1)
		f.b = append(f.b, "\r\n\t"...)
		f.b = append(f.b, text[:n]...)
		text = text[n:]
	}
	return append(f.b, "\r\n"...), nil
}
