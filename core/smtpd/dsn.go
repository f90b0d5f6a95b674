package smtpd

import (
	"strings"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
)

// Replies about the parameters of RFC 3461.
var (
	errRet    = message.NewReply(501, "5.5.4", "RET takes FULL or HDRS")
	errEnvID  = message.NewReply(501, "5.5.4", "ENVID takes 1 to 100 characters of xtext (RFC 3461)")
	errNotify = message.NewReply(501, "5.5.4", "NOTIFY takes NEVER, or a list of SUCCESS, FAILURE and DELAY")
	errOrcpt  = message.NewReply(501, "5.5.4", "ORCPT takes a type, a semicolon and an address in xtext (RFC 3461), 500 characters at most")
)

// Bounds of RFC 3461 section 4.4 and 4.2.
const (
	maxEnvID = 100
	maxOrcpt = 500
)

// retParam: RFC 3461 section 4.3.
func retParam(_ *conn, _ *hooks.Transaction, value *string) *message.Reply {
	*value = strings.ToUpper(*value)
	if *value != "FULL" && *value != "HDRS" {
		return &errRet
	}
	return nil
}

// envidParam: RFC 3461 section 4.4.
func envidParam(_ *conn, _ *hooks.Transaction, value *string) *message.Reply {
	if plain, ok := message.DecodeXtext(*value); !ok || plain == "" || !printable(plain) || len(*value) > maxEnvID {
		return &errEnvID
	}
	return nil
}

// notifyParam: RFC 3461 section 4.1.
func notifyParam(_ *conn, _ *hooks.Transaction, value *string) *message.Reply {
	*value = strings.ToUpper(*value)
	if *value == "NEVER" {
		return nil
	}
	seen := 0
	for word := range strings.SplitSeq(*value, ",") {
		if seen++; seen > 3 || word != "SUCCESS" && word != "FAILURE" && word != "DELAY" {
			return &errNotify
		}
	}
	return nil
}

// orcptParam: RFC 3461 section 4.2, and the type utf-8 of RFC 6533 section 3,
// which may hold UTF-8 where SMTPUTF8 was said.
func orcptParam(c *conn, _ *hooks.Transaction, value *string) *message.Reply {
	kind, address, _ := strings.Cut(*value, ";")
	if !isKeyword(kind) || address == "" || len(*value) > maxOrcpt {
		return &errOrcpt
	}
	if c.utf8 && strings.EqualFold(kind, "utf-8") && !isASCII(address) {
		if strings.ContainsAny(address, "+=\\") { // unitext has no coding
			return &errOrcpt
		}
		return nil
	}
	if plain, ok := message.DecodeXtext(address); !ok || !printable(plain) {
		return &errOrcpt
	}
	return nil
}

// printable tells whether s is printable ASCII, which is all that may come to a
// header field of a bounce.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}
