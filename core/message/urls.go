package message

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
	"golang.org/x/net/idna"
)

// Bounds of the search for addresses of the web.
const (
	maxURLs     = 1000
	maxURL      = 4 << 10 // octets of one
	maxURLText  = 4 << 20 // octets of one text part that are searched
	maxURLDepth = 2       // of addresses inside addresses
	maxURLTries = 20_000  // places that look like one
)

// URL is an address that a part's reader may follow.
type URL struct {
	Text string // decoded as it would be followed, at most 4 KiB of it
	Host string // lower-case, in A-labels, or an IP address in its usual form; "" for mailto:
	Path string // of the part
	// Defanged tells that it was written so as not to be followed: hxxp://a[.]b.
	Defanged bool
}

// URLs finds the addresses in the message's text parts, each once: those of
// attributes and of text in HTML, and those in plain text, behind every encoding;
// http, https, ftp and mailto, names that begin with "www.", defanged ones, and
// addresses inside the query of another. At most 1000 are given, and 4 MiB of a
// part searched: more tells that something was left out.
func (m *MIME) URLs() (list []URL, more bool, err error) {
	f := urlFinder{seen: map[string]bool{}, left: maxURLTries}
	for p := range m.Parts() {
		if len(p.Children) > 0 || !strings.HasPrefix(p.Type, "text/") {
			continue
		}
		f.path = p.Path
		r := &limited{r: p.Text(), left: maxURLText}
		if p.Type == "text/html" {
			err = f.html(r)
		} else {
			err = f.plain(r)
		}
		f.more = f.more || r.more
		if err != nil || f.full() {
			break
		}
	}
	return f.list, f.more || m.Truncated != "", err
}

// limited is an io.LimitedReader that knows whether something was left.
type limited struct {
	r    io.Reader
	left int
	more bool
}

func (l *limited) Read(p []byte) (int, error) {
	if l.left == 0 {
		var one [1]byte
		n, err := l.r.Read(one[:])
		l.more = l.more || n > 0
		if n == 0 && err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		return 0, io.EOF
	}
	n, err := l.r.Read(p[:min(len(p), l.left)])
	l.left -= n
	return n, err
}

type urlFinder struct {
	list []URL
	seen map[string]bool
	path string
	more bool
	left int // tries
}

func (f *urlFinder) full() bool {
	over := len(f.list) >= maxURLs || f.left <= 0
	f.more = f.more || over
	return over
}

// plain finds what stands in a plain text.
func (f *urlFinder) plain(r io.Reader) error {
	text := texts.Get().(*bytes.Buffer)
	defer func() {
		if text.Cap() <= 256<<10 {
			text.Reset()
			texts.Put(text)
		}
	}()
	_, err := text.ReadFrom(r)
	f.text(text.Bytes(), 0)
	return err
}

// texts are spare buffers for whole texts.
var texts = sync.Pool{New: func() any { return &bytes.Buffer{} }}

// html finds what attributes point to, and what stands in the text.
func (f *urlFinder) html(r io.Reader) error {
	base := ""
	return readHTML(r, func(t html.TokenType, z *html.Tokenizer, tag atom.Atom, attrs bool) bool {
		switch t {
		case html.TextToken:
			f.text(z.Text(), 0)
		case html.StartTagToken, html.SelfClosingTagToken:
			for attrs {
				var key, value []byte
				key, value, attrs = z.TagAttr()
				switch string(key) {
				case "href", "src", "action", "formaction", "background", "poster", "data", "cite", "longdesc", "lowsrc", "dynsrc", "ping", "xlink:href":
					if tag == atom.Base && string(key) == "href" && base == "" {
						base = string(value)
					}
					f.attribute(string(value), base)
				case "srcset", "style", "content":
					f.text(value, 0)
				}
			}
		}
		return !f.full()
	})
}

var dropped = strings.NewReplacer("\t", "", "\n", "", "\r", "")

// attribute takes the value of an attribute, as browsers do: blanks around it,
// line ends and tabs in it don't count, and backslashes are slashes.
func (f *urlFinder) attribute(v, base string) {
	v = strings.TrimFunc(v, func(r rune) bool { return r <= ' ' })
	if strings.ContainsAny(v, "\t\r\n") {
		v = dropped.Replace(v)
	}
	switch scheme, _, ok := strings.Cut(v, ":"); {
	case strings.HasPrefix(v, "//") || strings.HasPrefix(v, `\\`):
		v = "https:" + v
	case ok && isScheme(scheme):
	case base != "" && v != "" && v[0] != '#':
		v = strings.TrimRight(base, "/") + "/" + strings.TrimLeft(v, "/")
	default:
		return
	}
	f.add(v, 0, false)
}

func isScheme(s string) bool {
	if len(s) > 20 || s == "" {
		return false
	}
	for i := range len(s) {
		c := s[i] | 0x20
		if (c < 'a' || c > 'z') && (i == 0 || (s[i] < '0' || s[i] > '9') && s[i] != '+' && s[i] != '-' && s[i] != '.') {
			return false
		}
	}
	return true
}

// text finds addresses in running text. Each place is looked at once, so the time
// is linear.
func (f *urlFinder) text(s []byte, depth int) {
	for len(s) > 0 && !f.full() {
		i := bytes.IndexAny(s, ":wW[")
		if i < 0 {
			return
		}
		start, end, defanged := 0, 0, false
		switch s[i] {
		case ':':
			start, defanged = schemeBefore(s, i)
			if start < i {
				end = endOfURL(s, i+1)
			}
		case '[': // hxxp[:]//host
			if bytes.HasPrefix(s[i:], []byte("[:]")) || bytes.HasPrefix(s[i:], []byte("[://]")) {
				if start, _ = schemeBefore(s, i); start < i {
					end, defanged = endOfURL(s, i+3), true
				}
			}
		default:
			if (i == 0 || !wordByte(s[i-1])) && len(s) > i+4 && strings.EqualFold(string(s[i:i+4]), "www.") {
				start, end = i, endOfURL(s, i+4)
			}
		}
		if end <= i {
			s = s[i+1:]
			continue
		}
		f.add(string(s[start:end]), depth, defanged)
		s = s[end:]
	}
}

func wordByte(c byte) bool {
	return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z' || c == '.' || c == '-' || c == '@' || c == '/'
}

// schemeBefore finds the scheme that ends before s[i]; start is i where there is
// none that we know.
func schemeBefore(s []byte, i int) (start int, defanged bool) {
	for _, scheme := range [...]string{"https", "http", "ftp", "mailto", "hxxps", "hxxp", "meow", "fxp"} {
		if n := i - len(scheme); n >= 0 && strings.EqualFold(string(s[n:i]), scheme) && (n == 0 || !letter(s[n-1])) {
			if scheme != "mailto" && !bytes.HasPrefix(s[i:], []byte("://")) && !bytes.HasPrefix(s[i:], []byte(`:\\`)) && s[i] != '[' {
				return i, false
			}
			return n, scheme == "hxxps" || scheme == "hxxp" || scheme == "meow" || scheme == "fxp"
		}
	}
	return i, false
}

func letter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }

// endOfURL is where the address ends whose scheme ends before from.
func endOfURL(s []byte, from int) int {
	end := from
	for end < len(s) && end-from < maxURL {
		r, n := utf8.DecodeRune(s[end:])
		if r <= ' ' || r == '<' || r == '>' || r == '"' || r == '`' || r == 0x7f || unicode.IsSpace(r) || unicode.IsControl(r) || r == '»' || r == '“' || r == '”' {
			break
		}
		end += n
	}
	open := [256]int{} // brackets that were opened, less those that were closed
	for i := from; i < end; i++ {
		switch c := s[i]; c {
		case '(', '[', '{':
			open[c]++
		case ')', ']', '}':
			open[opening(c)]--
		}
	}
	for end > from {
		switch c := s[end-1]; c {
		case '.', ',', ';', ':', '!', '?', '\'', '*', '_', '~', '|':
		case ')', ']', '}':
			if open[opening(c)] >= 0 {
				return end
			}
			open[opening(c)]++
		default:
			return end
		}
		end--
	}
	return end
}

func opening(c byte) byte {
	switch c {
	case ')':
		return '('
	case ']':
		return '['
	}
	return '{'
}

// fangs are the ways in which dots and slashes are made harmless.
var fangs = strings.NewReplacer("[.]", ".", "(.)", ".", "{.}", ".", "[dot]", ".", "(dot)", ".", "{dot}", ".", "[:]", ":", "[://]", "://", "[/]", "/")

// refang undoes what keeps an address from being followed.
func refang(s string) (clean string, changed bool) {
	front, rest := s, ""
	if i := strings.IndexAny(s, "/?#"); i >= 0 {
		if j := strings.Index(s, "//"); j >= 0 && j <= i {
			i = j + 2
			if k := strings.IndexAny(s[i:], "/?#"); k >= 0 {
				i += k
			} else {
				i = len(s)
			}
		}
		front, rest = s[:i], s[i:]
	}
	if strings.ContainsAny(front, "[({") {
		front = fangs.Replace(front)
	}
	for _, one := range [...][2]string{{"hxxps:", "https:"}, {"hxxp:", "http:"}, {"meow:", "http:"}, {"fxp:", "ftp:"}} {
		if len(front) >= len(one[0]) && strings.EqualFold(front[:len(one[0])], one[0]) {
			front = one[1] + front[len(one[0]):]
		}
	}
	clean = front + rest
	return clean, clean != s
}

// add notes an address, and those inside it.
func (f *urlFinder) add(s string, depth int, defanged bool) {
	f.left--
	if len(s) > 4*maxURL {
		s, f.more = s[:4*maxURL], true
	}
	if f.seen[s] {
		return
	}
	f.seen[s] = true
	given := s
	s, changed := refang(s)
	if len(s) >= 4 && strings.EqualFold(s[:4], "www.") {
		s = "http://" + s
	}
	scheme, rest, ok := strings.Cut(s, ":")
	if !ok || !isScheme(scheme) || rest == "" {
		return
	}
	scheme = strings.ToLower(scheme)
	u := URL{Path: f.path, Defanged: defanged || changed}
	switch scheme {
	case "http", "https", "ftp":
		rest = strings.ReplaceAll(cutAt(rest, "?#", true), `\`, "/") + cutAt(rest, "?#", false)
		rest = strings.TrimLeft(rest, "/")
		authority := cutAt(rest, "/?#", true)
		u.Host = hostOf(authority)
		if u.Host == "" {
			return
		}
		u.Text = scheme + "://" + rest
	case "mailto":
		u.Text = "mailto:" + rest
	default:
		return // data:, cid:, javascript: and others lead nowhere
	}
	if len(u.Text) > maxURL {
		u.Text = strings.ToValidUTF8(u.Text[:maxURL], "")
		f.more = true
	}
	if (!f.seen[u.Text] || u.Text == given) && !f.full() {
		f.seen[u.Text] = true
		f.list = append(f.list, u)
	}
	if inside := cutAt(rest, "/?#", false); depth < maxURLDepth && inside != "" {
		if decoded := percentDecode(inside); bytes.Contains(decoded, []byte("://")) {
			f.text(decoded, depth+1)
		}
	}
}

// cutAt is what stands before, or from, the first of the bytes.
func cutAt(s, any string, before bool) string {
	i := strings.IndexAny(s, any)
	if i < 0 {
		i = len(s)
	}
	if before {
		return s[:i]
	}
	return s[i:]
}

// hostOf is the host of an authority as it would be looked up, "" where there is
// none: user and port cut off, percent codes, wide characters and unusual forms of
// IPv4 addresses resolved.
func hostOf(authority string) string {
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		authority = authority[i+1:]
	}
	if strings.HasPrefix(authority, "[") {
		ip, err := netip.ParseAddr(strings.Trim(cutAt(authority, "]", true), "["))
		if err != nil {
			return ""
		}
		return ip.String()
	}
	host := strings.ToValidUTF8(string(percentDecode(cutAt(authority, ":", true))), "")
	host = strings.TrimRight(host, ".")
	if a, err := idna.Lookup.ToASCII(host); err == nil {
		host = a
	} else if host, err = idna.Punycode.ToASCII(strings.ToLower(host)); err != nil {
		return ""
	}
	host = strings.TrimRight(host, ".")
	if ip, ok := looseIPv4(host); ok {
		return ip.String()
	}
	if len(host) > MaxDomain || strings.ContainsFunc(host, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune(`<>"\^{}|/?#@:`, r) }) {
		return ""
	}
	return host
}

// looseIPv4 reads an IPv4 address as browsers do: one to four numbers, decimal,
// octal or hexadecimal, the last of which fills the rest.
func looseIPv4(host string) (netip.Addr, bool) {
	parts := strings.Split(host, ".")
	if len(parts) > 4 {
		return netip.Addr{}, false
	}
	var n uint64
	for i, p := range parts {
		base := 10
		switch {
		case strings.HasPrefix(p, "0x"):
			p, base = p[2:], 16
		case len(p) > 1 && p[0] == '0':
			p, base = p[1:], 8
		}
		v, err := strconv.ParseUint(p, base, 32)
		last := i == len(parts)-1
		if err != nil || !last && v > 255 || last && v >= 1<<(8*uint(5-len(parts))) {
			return netip.Addr{}, false
		}
		if last {
			n += v
		} else {
			n += v << (8 * uint(3-i))
		}
	}
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}), true
}
