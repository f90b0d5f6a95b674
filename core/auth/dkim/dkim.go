// Package dkim verifies the signatures of messages, and signs messages (RFC 6376;
// algorithms by RFC 8301 and RFC 8463, internationalised names by RFC 8616).
//
// The map, in the order of a verification:
//
//	message.go    Open: header fields by name, and where the content begins
//	tags.go       tag lists, of which signatures and key records are made
//	signature.go  a DKIM-Signature field becomes a Signature, or what is wrong
//	key.go        a key record, and the question for it
//	canon.go      canonical forms: of a field at once, of a body as it streams
//	bodyhash.go   the content, read once, hashed once for each canonical form
//	verify.go     Verifier: a Result for each signature
//	sign.go       Keyring: which keys sign a message, and the fields they make
//	keyfile.go    private keys in files, and the records that publish them
//
// What is guaranteed: a signature that is broken, slow to look up or of an unknown
// kind changes nothing for the others. The work for a message is bounded by its
// size, Verifier's limits and its timeout, whatever the message holds. A body is
// read in blocks, never whole.
//
// The words of results are those of RFC 8601 section 2.7.1. A signature that can't
// be read is neutral; one that can be read, and can't be valid whatever the message
// says, is permerror (PERMFAIL in RFC 6376 section 6.1); one that is valid and not
// taken all the same is policy: a key too short or too long, an unsigned part of the
// body, a second From field that nobody signed.
package dkim

import (
	"time"
)

// Word is the result of a signature, or of a message.
type Word string

// The words (RFC 8601 section 2.7.1).
const (
	None      Word = "none"      // not signed
	Pass      Word = "pass"      // verified
	Fail      Word = "fail"      // it does not match the message, or has expired
	Policy    Word = "policy"    // it may be right, and is not taken
	Neutral   Word = "neutral"   // it can't be read
	TempError Word = "temperror" // the key can't be had now
	PermError Word = "permerror" // it can never be right
)

// rank orders the words by what they tell of a message with several signatures.
var rank = [...]Word{Pass, TempError, Fail, Policy, PermError, Neutral}

// Result is what became of one signature.
type Result struct {
	Word   Word
	Reason string // one line; empty where the word is pass

	Domain    string // d=, lower-case; empty where it can't be read
	Identity  string // i=, decoded; "@" and the domain where it is not given
	Selector  string // s=
	Algorithm string // "rsa-sha256", "ed25519-sha256"
	Header    Canon  // canonical form of the fields
	Body      Canon  // and of the content
	Fields    []string
	Signed    time.Time // t=; zero: not given
	Expires   time.Time // x=; zero: never
	Length    int64     // l=; -1: not given
	Unsigned  int64     // bytes of the canonical content that l= leaves out
	Extra     []string  // names of signed fields of which there are more than are signed
	B         string    // the first eight characters of b= (RFC 6008)

	Query   string // the name of the key record
	Record  string // the record, where there is one
	KeyBits int
	Testing bool // t=y: to be treated as if it were not signed, unless it passes
}

// Report is the results of a message, in the order of its fields.
type Report struct {
	Results []Result
	Left    int // signatures beyond the limit, which were not looked at
}

// Word is the best of the results: pass where one signature passes.
func (r *Report) Word() Word {
	for _, w := range rank {
		for i := range r.Results {
			if r.Results[i].Word == w {
				return w
			}
		}
	}
	return None
}

// Passed are the domains of the signatures that pass.
func (r *Report) Passed() []string {
	var list []string
	for i := range r.Results {
		if r.Results[i].Word == Pass {
			list = append(list, r.Results[i].Domain)
		}
	}
	return list
}
