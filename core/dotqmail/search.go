package dotqmail

import "strings"

// Candidate is a file that may hold the instructions for an address.
type Candidate struct {
	File string // relative to the home
	// Default is what "default" in the file's name stands for; nil where it has none.
	Default *string
}

// Candidates are the files to look for, in this order; the first that is there
// counts. The extension is lower-case in names of files, with colons for dots, so that
// no address leads above the home.
func Candidates(dash, ext string) []Candidate {
	safe := safeExt(ext)
	first := Candidate{File: ".qmail" + dash + safe}
	const word = "default"
	if strings.HasSuffix(safe, word) {
		matched := ext[len(safe)-len(word):]
		first.Default = &matched
	}
	list := []Candidate{first}
	for i := len(safe); i >= 0; i-- {
		if i == 0 || safe[i-1] == '-' {
			matched := ext[i:]
			list = append(list, Candidate{".qmail" + dash + safe[:i] + word, &matched})
		}
	}
	return list
}

// Owner is the file whose being there makes address-owner the sender of what is
// forwarded; with OwnerDefault beside it, that sender is another one for each
// recipient.
func Owner(dash, ext string) string { return ".qmail" + dash + safeExt(ext) + "-owner" }

// OwnerDefault is the second file of Owner.
func OwnerDefault(dash, ext string) string { return Owner(dash, ext) + "-default" }

func safeExt(ext string) string { return strings.ReplaceAll(lowerASCII(ext), ".", ":") }

// Names are the accounts of the system that a local part may belong to, in the order
// in which they are looked for: all of it, then up to each of the break characters,
// from the right.
func Names(local, breaks string) []Name {
	var list []Name
	for i := len(local); i >= 0; i-- {
		if i < len(local) && strings.IndexByte(breaks, local[i]) < 0 {
			continue
		}
		if i == 0 || i >= 32 { // qmail's bound
			continue
		}
		n := Name{User: lowerASCII(local[:i])}
		if i < len(local) {
			n.Dash, n.Ext = "-", local[i+1:]
		}
		list = append(list, n)
	}
	return list
}

// Name is a local part taken apart.
type Name struct{ User, Dash, Ext string }
