package smtpd

import (
	"slices"
	"strconv"
	"strings"

	"github.com/postern-mta/postern/core/message"
)

// errNoChunking answers BDAT where CHUNKING is not offered, behind the chunk.
var errNoChunking = message.NewReply(502, "5.5.1", "BDAT is not offered here; send the message with DATA")

// capabilities is what EHLO's reply lists, a line each, as long as no policy says
// otherwise.
func (c *conn) capabilities() []string {
	size := "SIZE"
	if limit := c.server.door.Limits(c.s); limit > 0 {
		size += " " + strconv.FormatInt(limit, 10)
	}
	limits := "LIMITS RCPTMAX=" + strconv.Itoa(c.limits.Recipients)
	if c.limits.Messages > 0 {
		limits += " MAILMAX=" + strconv.Itoa(c.limits.Messages)
	}
	list := append(make([]string, 0, 16), "PIPELINING", size, "8BITMIME", "SMTPUTF8", "CHUNKING", "BINARYMIME", "DSN", "ENHANCEDSTATUSCODES", limits)
	if !c.lmtp() {
		list = append(list, "PRDR")
	}
	if c.s.TLS == nil && c.offersTLS() {
		list = append(list, "STARTTLS")
	}
	if c.s.TLS != nil && c.offersAuth() { // nothing in the clear
		list = append(list, "AUTH "+strings.Join(c.mechanisms(), " "))
	}
	if c.peer.MayXclient() {
		list = append(list, "XCLIENT "+strings.Join(xclientNames[:], " "), "XFORWARD "+strings.Join(xforwardNames[:], " "))
	}
	return list
}

// keyword is an EHLO line's first word in upper case.
func keyword(line string) string {
	word, _, _ := strings.Cut(line, " ")
	return strings.ToUpper(word)
}

// settleOffers compares what EHLO would have said with what the policies of stage
// helo left of it. An extension that is gone is not served until the next EHLO, nor
// is one that needs it; one that was added is said and no more. Of AUTH, the
// mechanisms that are left are served.
func (c *conn) settleOffers(before, after []string) []string {
	if slices.Equal(before, after) {
		return after
	}
	has := make(map[string]string, len(after))
	for _, line := range after {
		has[keyword(line)] = line
	}
	for _, line := range before {
		word := keyword(line)
		if _, ok := has[word]; !ok {
			c.without = append(c.without, word)
		}
	}
	if c.lacks("CHUNKING") && !c.lacks("BINARYMIME") { // RFC 3030 section 3: it needs BDAT
		c.without = append(c.without, "BINARYMIME")
		after = slices.DeleteFunc(slices.Clone(after), func(line string) bool { return keyword(line) == "BINARYMIME" })
	}
	for _, name := range c.mechanisms() {
		if line, ok := has["AUTH"]; ok && !slices.Contains(strings.Fields(strings.ToUpper(line))[1:], name) {
			c.without = append(c.without, "AUTH "+name)
		}
	}
	return after
}

// lacks tells whether a policy took an extension away from this session.
func (c *conn) lacks(word string) bool { return slices.Contains(c.without, word) }
