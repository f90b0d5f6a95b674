package local

import (
	"crypto/sha256"
	"encoding/hex"
	"path"
	"strings"

	"github.com/postern-mta/postern/core/message"
)

// maxName is the longest name that is kept in full; file systems allow 255 bytes.
const maxName = 200

// mailbox is the folder of an address below the root: its domain and its local
// part, each one path element. postmaster has no case (RFC 5321 section 4.5.1),
// other local parts keep theirs.
func mailbox(a message.Address) string {
	l := a.Local
	if a.IsPostmaster() {
		l = "postmaster"
	}
	return path.Join(element(a.Domain), element(l))
}

// element makes one path element out of any text: letters, digits and a few
// signs stand for themselves, every other byte is %XX, a leading dot too. So no
// two texts share a name, and none is "..", hidden, or holds a slash. Of a long
// one the start and a hash are kept.
func element(s string) string {
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if plain(c) && (c != '.' || i > 0) {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(digits[c>>4])
		b.WriteByte(digits[c&15])
	}
	switch name := b.String(); {
	case name == "":
		return "%"
	case len(name) > maxName:
		sum := sha256.Sum256([]byte(s))
		return name[:maxName/2] + "%~" + hex.EncodeToString(sum[:16])
	default:
		return name
	}
}

func plain(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("._+=-@", c) >= 0
}

// trace is the fields in front of a delivered message. A control character of an
// address becomes "_", as qmail does it.
func trace(sender, to message.Address) []byte {
	safe := func(s string) string {
		return strings.Map(func(r rune) rune {
			if r < ' ' || r == 0x7f {
				return '_'
			}
			return r
		}, s)
	}
	return []byte("Return-Path: " + safe(sender.Path()) + "\nDelivered-To: " + safe(to.String()) + "\n")
}

// hostPart is a host name as the names of Maildir files have it.
func hostPart(host string) string {
	if host == "" {
		return "localhost"
	}
	return strings.NewReplacer("/", `\057`, ":", `\072`).Replace(host)
}
