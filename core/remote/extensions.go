package remote

import (
	"slices"
	"strconv"
	"strings"
)

// extensions are what a host offers in its answer to EHLO or LHLO (RFC 5321
// section 4.1.1.1), as far as we use it.
type extensions struct {
	startTLS   bool  // RFC 3207
	pipelining bool  // RFC 2920
	eightBit   bool  // RFC 6152
	utf8       bool  // RFC 6531
	dsn        bool  // RFC 3461
	chunking   bool  // RFC 3030
	binary     bool  // RFC 3030 section 3
	sized      bool  // RFC 1870
	size       int64 // the largest message taken in bytes; 0: not said
	auth       []string
}

// parseExtensions reads the text of a reply to EHLO. Keywords have no case.
func parseExtensions(text string) (e extensions) {
	_, text, _ = strings.Cut(text, "\n")
	for line := range strings.SplitSeq(text, "\n") {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		switch keyword := strings.ToUpper(words[0]); {
		case keyword == "STARTTLS":
			e.startTLS = true
		case keyword == "PIPELINING":
			e.pipelining = true
		case keyword == "8BITMIME":
			e.eightBit = true
		case keyword == "SMTPUTF8":
			e.utf8 = true
		case keyword == "DSN":
			e.dsn = true
		case keyword == "CHUNKING":
			e.chunking = true
		case keyword == "BINARYMIME":
			e.binary = true
		case keyword == "SIZE":
			e.sized = true
			if len(words) > 1 {
				if n, err := strconv.ParseInt(words[1], 10, 64); err == nil && n > 0 {
					e.size = n
				}
			}
		case keyword == "AUTH" || strings.HasPrefix(keyword, "AUTH="): // the form with = is from before the RFC
			words[0] = strings.TrimPrefix(strings.TrimPrefix(keyword, "AUTH"), "=")
			for _, w := range words {
				if w = strings.ToUpper(w); w != "" && !slices.Contains(e.auth, w) {
					e.auth = append(e.auth, w)
				}
			}
		}
	}
	return e
}
