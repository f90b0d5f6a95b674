package message

import (
	"bytes"
	"iter"
	"slices"
)

// FieldsOf walks the fields of a header section as ParseHeader does, for those who
// only look: it keeps nothing, and takes no memory for the usual fields.
func FieldsOf(section []byte) iter.Seq[Field] {
	return func(yield func(Field) bool) {
		for len(section) > 0 {
			raw := section[:FieldLen(section)]
			section = section[len(raw):]
			if !yield(Field{Name: fieldName(raw), Raw: raw[:len(raw):len(raw)]}) {
				return
			}
		}
	}
}

// FieldLen is the length of the first field of a section, its folded lines too.
func FieldLen(section []byte) int {
	for end := 0; ; {
		i := bytes.IndexByte(section[end:], '\n')
		if i < 0 {
			return len(section)
		}
		end += i + 1
		if end == len(section) || section[end] != ' ' && section[end] != '\t' {
			return end
		}
	}
}

// fieldName is the name of a field, "" where raw is none. Blanks before the
// colon are let pass, as RFC 5322 section 4.5 asks readers to.
func fieldName(raw []byte) string {
	i := bytes.IndexByte(raw, ':')
	if i <= 0 {
		return ""
	}
	name := bytes.TrimRight(raw[:i], " \t")
	if i, ok := slices.BinarySearchFunc(usualNames[:], name, compareName); ok {
		return usualNames[i]
	}
	if !validName(string(name)) {
		return ""
	}
	return string(name)
}

// usualNames are names that messages usually have, in order; they take no memory of
// their own.
var usualNames = [...]string{
	"ARC-Authentication-Results", "ARC-Message-Signature", "ARC-Seal", "Authentication-Results",
	"Bcc", "CC", "Cc", "Content-Disposition", "Content-Language", "Content-Transfer-Encoding",
	"Content-Type", "DKIM-Signature", "Date", "Delivered-To", "Feedback-ID", "From",
	"In-Reply-To", "List-Archive", "List-Help", "List-Id", "List-Post", "List-Subscribe",
	"List-Unsubscribe", "List-Unsubscribe-Post", "MIME-Version", "Message-ID", "Message-Id",
	"Mime-Version", "Precedence", "Received", "Received-SPF", "References", "Reply-To",
	"Return-Path", "Sender", "Subject", "To", "User-Agent", "X-Mailer",
}

func compareName(usual string, name []byte) int {
	switch { // neither conversion takes memory
	case usual < string(name):
		return -1
	case usual > string(name):
		return 1
	}
	return 0
}
