// Package quarantine tells people of the mail that is kept from them, and lets them
// have it by a link.
//
//   - Key (this file) makes links that nobody else can, and reads them again.
//   - Digest (digest.go) is the mail that lists what is kept for a recipient.
//   - Page (page.go) answers to the links: a look asks whether the message is to be
//     released, and only the button releases it, so that programs which follow the
//     links of a mail release nothing.
package quarantine

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/postern-mta/postern/core/message"
)

// What a link can be refused for.
var (
	ErrForged  = errors.New("the link is not one of ours, or not complete")
	ErrExpired = errors.New("the link has expired")
)

// Claim is what a link stands for: a recipient may have a message, for some time.
type Claim struct {
	ID        string
	Recipient string
	Until     time.Time // in whole seconds
}

// Key makes and checks links. Whoever has it can release any message.
type Key struct{ secret []byte }

const (
	minKey   = 32 // bytes of a key's file, at least
	madeKey  = 32 // random bytes of one that is made
	maxParam = 1000
)

// LoadKey reads the file of a key, whose first line is it, and makes one where there
// is none.
func LoadKey(path string) (*Key, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return makeKey(path)
	}
	if err != nil {
		return nil, fmt.Errorf("quarantine: key: %w", err)
	}
	about, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("quarantine: key: %w", err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	line = strings.TrimSpace(line)
	switch {
	case about.Mode()&0o077 != 0:
		return nil, fmt.Errorf("quarantine: key %s can be read by others; chmod 600", path)
	case len(line) < minKey:
		return nil, fmt.Errorf("quarantine: key %s has %d characters in its first line; %d are needed", path, len(line), minKey)
	}
	return &Key{[]byte(line)}, nil
}

func makeKey(path string) (*Key, error) {
	random := make([]byte, madeKey)
	_, _ = rand.Read(random) // which never fails
	line := hex.EncodeToString(random)
	if err := keep(path, line+"\n"); err != nil {
		return nil, fmt.Errorf("quarantine: key: %w", err)
	}
	return &Key{[]byte(line)}, nil
}

// keep makes a file for its owner alone, whole or not at all, as it is after a power cut
// too: links that were sent are good as long as their key is there. A file that is there
// by now is left alone, which is an error.
func keep(path, text string) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*") // of mode 0600
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Link(f.Name(), path)
	}
	if err = errors.Join(err, os.Remove(f.Name())); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// sign is the signature of a claim. Its parts are told apart by their lengths.
func (k *Key) sign(c Claim) []byte {
	mac := hmac.New(sha256.New, k.secret)
	fmt.Fprintf(mac, "postern quarantine release 1\n%d %s\n%d %s\n%d\n", len(c.ID), c.ID, len(c.Recipient), c.Recipient, c.Until.Unix())
	return mac.Sum(nil)
}

// Link is a claim as a URL that begins with base.
func (k *Key) Link(base string, c Claim) string {
	return strings.TrimSuffix(base, "/") + "/?" + k.values(c).Encode()
}

func (k *Key) values(c Claim) url.Values {
	return url.Values{
		"m": {c.ID}, "r": {c.Recipient}, "e": {strconv.FormatInt(c.Until.Unix(), 10)},
		"s": {base64.RawURLEncoding.EncodeToString(k.sign(c))},
	}
}

// Check reads the values of a link. The error is ErrForged or ErrExpired.
func (k *Key) Check(q url.Values, now time.Time) (Claim, error) {
	for _, name := range []string{"m", "r", "e", "s"} {
		if len(q[name]) != 1 || len(q[name][0]) > maxParam {
			return Claim{}, ErrForged
		}
	}
	until, err := strconv.ParseInt(q.Get("e"), 10, 64)
	if err != nil || !message.ValidID(q.Get("m")) {
		return Claim{}, ErrForged
	}
	c := Claim{ID: q.Get("m"), Recipient: q.Get("r"), Until: time.Unix(until, 0)}
	given, err := base64.RawURLEncoding.DecodeString(q.Get("s"))
	if err != nil || subtle.ConstantTimeCompare(given, k.sign(c)) != 1 {
		return Claim{}, ErrForged
	}
	if !now.Before(c.Until) {
		return Claim{}, ErrExpired
	}
	return c, nil
}
