package dkim

import (
	"errors"
	"fmt"
	"strings"
)

// maxTags bounds a tag list.
const maxTags = 100

// Tag is one of a tag list (RFC 6376 section 3.2).
type Tag struct {
	Name, Value string // the value without the blanks around it; it may be folded
	From, To    int    // where the value stands in the list, with those blanks
}

// Tags is a tag list.
type Tags []Tag

var errNoTags = errors.New("there are no tags")

// ParseTags reads a tag list. More lenient than the grammar, blanks may follow the
// last semicolon. A tag without a name, or one that stands twice, is an error.
func ParseTags(s string) (Tags, error) {
	var list Tags
	for at := 0; at < len(s); {
		end := len(s)
		if i := strings.IndexByte(s[at:], ';'); i >= 0 {
			end = at + i
		}
		part := s[at:end]
		if end == len(s) && strings.Trim(part, blanks) == "" {
			break // behind the last semicolon
		}
		name, value, ok := strings.Cut(part, "=")
		tag := Tag{Name: strings.Trim(name, blanks), Value: strings.Trim(value, blanks), From: at + len(name) + 1, To: end}
		switch {
		case !ok || !tagName(tag.Name):
			return nil, fmt.Errorf("%q is no tag: NAME=VALUE is expected", short(part))
		case list.has(tag.Name):
			return nil, fmt.Errorf("tag %s= stands twice", tag.Name)
		case len(list) == maxTags:
			return nil, fmt.Errorf("more than %d tags", maxTags)
		}
		if i := strings.IndexFunc(tag.Value, func(r rune) bool { return r < ' ' && !strings.ContainsRune(blanks, r) || r == 0x7f }); i >= 0 {
			return nil, fmt.Errorf("tag %s= holds a control character", tag.Name)
		}
		list = append(list, tag)
		at = end + 1
	}
	if len(list) == 0 {
		return nil, errNoTags
	}
	return list, nil
}

const blanks = " \t\r\n"

func tagName(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z':
		case i > 0 && (c >= '0' && c <= '9' || c == '_'):
		default:
			return false
		}
	}
	return s != ""
}

// Find is the tag of that name, nil where there is none.
func (l Tags) Find(name string) *Tag {
	for i := range l {
		if l[i].Name == name {
			return &l[i]
		}
	}
	return nil
}

func (l Tags) has(name string) bool { return l.Find(name) != nil }

// Get is the value of a tag without any blanks within it, "" where it is not there.
func (l Tags) Get(name string) string {
	if t := l.Find(name); t != nil {
		return compact(t.Value)
	}
	return ""
}

// compact is s without blanks and line ends.
func compact(s string) string {
	if !strings.ContainsAny(s, blanks) {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := range len(s) {
		if c := s[i]; c != ' ' && c != '\t' && c != '\r' && c != '\n' {
			b = append(b, c)
		}
	}
	return string(b)
}

// List is the elements of a colon-separated value, without blanks and empty ones.
func List(s string) []string {
	var out []string
	for part := range strings.SplitSeq(compact(s), ":") {
		if part != "" {
			out = append(out, part)
		}
	}
	return out
}

// short is a text of bounded length on one line, for reasons.
func short(s string) string {
	s = strings.Join(strings.Fields(strings.ToValidUTF8(s[:min(len(s), 100)], "?")), " ")
	if len(s) > 40 {
		s = strings.ToValidUTF8(s[:40], "") + "…"
	}
	return s
}
