package message

import (
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Part is one node of a message's MIME structure (RFC 2045 section 2.5): the
// message itself, a multipart, a nested message, or a leaf with content. It
// refers to the body it was found in, and is readable as long as that one is.
type Part struct {
	Path     string // of numbers from the root, which is "1": "1.2" is its second child
	Depth    int    // 0 for the root
	Parent   *Part
	Children []*Part

	Type        string // "text/plain", lower-case; the default of the place where none is said
	Params      Params // of Content-Type
	Disposition string // "attachment", "inline"…, "" where none is said
	Encoding    string // Content-Transfer-Encoding, lower-case; "" where none is said
	ID          string // Content-ID without its brackets
	Description string // Content-Description, decoded
	// Names are the file names a reader may show, the likeliest first: of
	// Content-Disposition and Content-Type, decoded in every way that is in use.
	// They are valid UTF-8 without control characters.
	Names []string
	// Fault says what is wrong with the part's own structure, the first thing only;
	// "" is the rule.
	Fault string

	Start int64 // of the header section, in the body that was parsed
	From  int64 // of the content
	End   int64 // behind it
	// Decoded tells that it stands in the content of an encoded part: Start, From
	// and End count in what that one is decoded to.
	Decoded bool

	body   Body
	inText bool // a uuencoded file, from behind its first line on
}

// Name is the first of Names, "" where there is none.
func (p *Part) Name() string {
	if len(p.Names) == 0 {
		return ""
	}
	return p.Names[0]
}

// Extension is the lower-case text behind the last dot of a file name, as a
// system that ignores trailing dots, blanks and invisible characters sees it.
func Extension(name string) string {
	name = strings.Map(func(r rune) rune {
		if unicode.Is(unicode.Cf, r) {
			return -1
		}
		return r
	}, name)
	name = strings.TrimRight(name, ". \t\u00a0\u3000")
	i := strings.LastIndexAny(name, "./\\:")
	if i < 0 || name[i] != '.' {
		return ""
	}
	return strings.ToLower(name[i+1:])
}

// Multipart tells whether the part holds others by a boundary.
func (p *Part) Multipart() bool { return strings.HasPrefix(p.Type, "multipart/") }

// IsText tells whether the part is shown as text: text/plain, text/html and the
// like, without a file name and not said to be an attachment.
func (p *Part) IsText() bool {
	return strings.HasPrefix(p.Type, "text/") && !p.IsAttachment()
}

// IsAttachment tells whether a reader offers the part as a file: a leaf or nested
// message that is said to be an attachment, has a file name, or is no text.
func (p *Part) IsAttachment() bool {
	if p.Multipart() && len(p.Children) > 0 || p.Parent == nil && p.Disposition != "attachment" && len(p.Names) == 0 && strings.HasPrefix(p.Type, "text/") {
		return false
	}
	return p.Disposition == "attachment" || len(p.Names) > 0 || !strings.HasPrefix(p.Type, "text/")
}

// Charset is the label of the part's charset in lower case, "" where none is said.
func (p *Part) Charset() string { return strings.ToLower(p.Params.Get("charset")) }

// boundary is the text of its delimiters.
func (p *Part) boundary() string { return strings.TrimRight(p.Params.Get("boundary"), " \t") }

// Raw reads the content as it stands in the message.
func (p *Part) Raw() *io.SectionReader {
	return io.NewSectionReader(p.body, p.From, p.End-p.From)
}

// Reader reads the content with its transfer encoding undone.
func (p *Part) Reader() io.Reader {
	if p.inText {
		return newUUReader(p.Raw(), true)
	}
	return decodeTransfer(p.Encoding, p.Raw())
}

// Text reads the content of a text part as UTF-8.
func (p *Part) Text() io.Reader {
	c, _ := charsetNamed(p.Charset())
	return c.reader(p.Reader())
}

// HeaderBytes is the part's header section as it stands, at most 64 KiB of it.
func (p *Part) HeaderBytes() ([]byte, error) {
	b := make([]byte, min(p.From-p.Start, maxPartHeader))
	n, err := p.body.ReadAt(b, p.Start)
	if n == len(b) || errors.Is(err, io.EOF) {
		err = nil
	}
	return b[:n], err
}

// fault notes the first thing that is wrong.
func (p *Part) fault(what string) {
	if p.Fault == "" {
		p.Fault = what
	}
}

// field takes one header field of the part, unfolded and undecoded.
func (p *Part) field(name, value string) {
	switch name {
	case "content-type":
		kind, params, clean := ParseContent(value)
		if !clean {
			p.fault("Content-Type is ambiguous")
		}
		p.name(params, "name")
		if p.Params != nil {
			p.fault("more than one Content-Type")
			return
		}
		p.Params = append(Params{}, params...)
		if validType(kind) {
			p.Type = kind
		} else if kind == "text" {
			p.Type = "text/plain"
		} else if kind != "" {
			p.Type = "application/octet-stream" // RFC 2045 section 5.2, last words
			p.fault("Content-Type is none")
		}
	case "content-disposition":
		kind, params, clean := ParseContent(value)
		if !clean {
			p.fault("Content-Disposition is ambiguous")
		}
		p.name(params, "filename")
		p.name(params, "name")
		if p.Disposition == "" || kind == "attachment" {
			p.Disposition = kind
		}
	case "content-transfer-encoding":
		if p.Encoding != "" {
			p.fault("more than one Content-Transfer-Encoding")
			return
		}
		p.Encoding = encodingName(value)
		switch p.Encoding {
		case "", "7bit", "8bit", "binary", "quoted-printable", "base64":
		default:
			p.fault("unknown Content-Transfer-Encoding")
		}
	case "content-id":
		p.ID = strings.Trim(anyText(value), " \t<>")
	case "content-description":
		p.Description = DecodeWords(value)
	}
}

func validType(s string) bool {
	kind, sub, ok := strings.Cut(s, "/")
	return ok && kind != "" && sub != "" && !strings.ContainsAny(s, " \t\"\\()<>@,:?=[]\x00\x7f")
}

// name adds the file names of a parameter. Those of Content-Disposition come
// first; in each, the decoded form of RFC 2047 goes before the literal one.
func (p *Part) name(params Params, key string) {
	const maxNames = 16
	var found []string
	for _, one := range params {
		if one.Key != key {
			continue
		}
		for _, v := range append([]string{one.Value}, one.Others...) {
			if d := DecodeWords(v); d != v {
				found = append(found, cleanName(d))
			}
			found = append(found, cleanName(v))
		}
	}
	if key == "filename" {
		found, p.Names = append(found, p.Names...), nil
	}
	for _, name := range found {
		if name != "" && len(p.Names) < maxNames && !slices.Contains(p.Names, name) {
			p.Names = append(p.Names, name)
		}
	}
}

// cleanName is a file name without line ends and other control characters.
func cleanName(s string) string {
	const maxName = 1024
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return -1
		}
		return r
	}, s)
	s = strings.TrimSpace(s)
	if len(s) > maxName { // its end is what says what it is
		s = strings.ToValidUTF8(s[len(s)-maxName:], "")
	}
	return s
}

// child makes the next part under p; its type is the default of the place.
func (p *Part) child(at int64) *Part {
	c := &Part{Path: p.Path + "." + strconv.Itoa(len(p.Children)+1), Depth: p.Depth + 1, Parent: p, Type: "text/plain", Start: at, From: at, End: at, Decoded: p.Decoded, body: p.body}
	if p.Type == "multipart/digest" {
		c.Type = "message/rfc822" // RFC 2046 section 5.1.5
	}
	p.Children = append(p.Children, c)
	return c
}
