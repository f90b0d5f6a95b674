package smtpd

import (
	"strconv"
	"strings"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
)

// Replies about addresses and parameters.
var (
	errParamSyntax = message.NewReply(501, "5.5.4", "Syntax error in the parameters; write KEYWORD=VALUE, parted by blanks")
	errParamTwice  = message.NewReply(501, "5.5.4", "A parameter is given twice")
	errSizeSyntax  = message.NewReply(501, "5.5.4", "SIZE takes a number of octets")
	errTooLarge    = message.NewReply(552, "5.3.4", "The message is larger than this server takes")
	errBodySyntax  = message.NewReply(501, "5.5.4", "BODY takes 7BIT, 8BITMIME or BINARYMIME")
	errNotASCII    = message.NewReply(553, "5.6.7", "An address with other than ASCII characters needs SMTPUTF8 behind MAIL FROM:<...>")
	errFlag        = message.NewReply(501, "5.5.4", "SMTPUTF8 and PRDR take no value")
)

// parameter is a row of the table of ESMTP parameters (RFC 5321 section
// 4.1.2). check judges a value, which it may bring to one form.
type parameter struct {
	key   string
	of    string // the verb it belongs to
	ext   string // the extension that brings it
	check func(c *conn, tx *hooks.Transaction, value *string) *message.Reply
}

// parameters are those that are supported; an unknown one is 555.
func parameters() []parameter {
	return []parameter{
		{"SIZE", "MAIL", "SIZE", sizeParam},
		{"BODY", "MAIL", "", bodyParam},
		{"SMTPUTF8", "MAIL", "SMTPUTF8", flagParam},
		{"PRDR", "MAIL", "PRDR", prdrParam},
		{"RET", "MAIL", "DSN", retParam},
		{"ENVID", "MAIL", "DSN", envidParam},
		{"NOTIFY", "RCPT", "DSN", notifyParam},
		{"ORCPT", "RCPT", "DSN", orcptParam},
		{"AUTH", "MAIL", "AUTH", authParam},
	}
}

// sizeParam: RFC 1870 section 6.
func sizeParam(c *conn, tx *hooks.Transaction, value *string) *message.Reply {
	if !digits(*value) {
		return &errSizeSyntax
	}
	n, err := strconv.ParseInt(*value, 10, 64)
	if limit := c.server.door.Limits(c.s); err != nil || limit > 0 && n > limit {
		return &errTooLarge // digits alone fail only where 64 bits are not enough
	}
	tx.Size = n
	return nil
}

// flagParam: a parameter that takes no value, such as SMTPUTF8 (RFC 6531 section
// 3.4).
func flagParam(_ *conn, _ *hooks.Transaction, value *string) *message.Reply {
	if *value != "" {
		return &errFlag
	}
	return nil
}

// prdrParam: draft-hall-prdr-00 section 4.2. LMTP answers so anyway.
func prdrParam(c *conn, tx *hooks.Transaction, value *string) *message.Reply {
	if c.lmtp() {
		r := unsupported("PRDR", "MAIL")
		return &r
	}
	return flagParam(c, tx, value)
}

func unsupported(key, verb string) message.Reply {
	return message.NewReply(555, "5.5.4", "The parameter %s of %s is not supported", clip(key), verb)
}

// bodyParam: RFC 6152 section 3, RFC 3030 section 3.
func bodyParam(c *conn, _ *hooks.Transaction, value *string) *message.Reply {
	*value = strings.ToUpper(*value)
	switch *value {
	case "7BIT":
		return nil
	case "8BITMIME", "BINARYMIME":
		if c.lacks(*value) {
			r := unsupported("BODY="+*value, "MAIL")
			return &r
		}
		return nil
	}
	return &errBodySyntax
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// readParams checks the parameters of MAIL or RCPT against the table.
func (c *conn) readParams(verb, s string, tx *hooks.Transaction) ([]hooks.Param, *message.Reply) {
	list, ok := parseParams(s, verb == "RCPT" && c.utf8)
	if !ok {
		return nil, &errParamSyntax
	}
	for i := range list {
		p := &list[i]
		row := c.server.params[verb+" "+p.Key]
		if row == nil || !c.supports(row) {
			r := unsupported(p.Key, verb)
			return nil, &r
		}
		for _, before := range list[:i] {
			if before.Key == p.Key {
				return nil, &errParamTwice
			}
		}
		if bad := row.check(c, tx, &p.Value); bad != nil {
			return nil, bad
		}
	}
	return list, nil
}

// supports tells whether a parameter is there for this client.
func (c *conn) supports(p *parameter) bool {
	switch p.key {
	case "BODY": // either of two brings it
		return !c.lacks("8BITMIME") || !c.lacks("BINARYMIME")
	case "AUTH":
		return c.offersAuth()
	}
	return !c.lacks(p.ext)
}

// parseParams splits what stands behind a path (RFC 5321 section 4.1.2:
// esmtp-param), keywords in upper case. Blanks around are no matter. wide: values
// may hold UTF-8 (RFC 6531 section 3.3), whose validity ParsePath has seen to.
func parseParams(s string, wide bool) ([]hooks.Param, bool) {
	var list []hooks.Param
	for {
		s = strings.TrimLeft(s, " ")
		if s == "" {
			return list, true
		}
		word, rest, _ := strings.Cut(s, " ")
		key, value, has := strings.Cut(word, "=")
		if !isKeyword(key) || has && !isValue(value, wide) {
			return nil, false
		}
		list = append(list, hooks.Param{Key: strings.ToUpper(key), Value: value})
		s = rest
	}
}

// isKeyword: esmtp-keyword.
func isKeyword(s string) bool {
	for i := range len(s) {
		c := s[i]
		alnum := c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !alnum && (c != '-' || i == 0) {
			return false
		}
	}
	return s != ""
}

// isValue: esmtp-value, any printable ASCII but "=" and blank, and if wide what
// is beyond ASCII.
func isValue(s string, wide bool) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] == 0x7f || s[i] == '=' || s[i] > 0x7f && !wide {
			return false
		}
	}
	return s != ""
}

// clip bounds what is echoed.
func clip(s string) string {
	const most = 40
	if len(s) <= most {
		return s
	}
	return s[:most] + "..."
}

// readPath reads "FROM:<path>" or "TO:<path>" and leaves the parameters. A blank
// between the colon and the path is let pass, as old senders put one there.
func readPath(arg, word string, parse func(string) (message.Address, string, error)) (a message.Address, rest string, err error) {
	if len(arg) < len(word) || !strings.EqualFold(arg[:len(word)], word) {
		return a, "", errNoWord
	}
	a, rest, err = parse(strings.TrimLeft(arg[len(word):], " "))
	if err == nil && rest != "" && rest[0] != ' ' {
		err = message.ErrSyntax
	}
	return a, rest, err
}
