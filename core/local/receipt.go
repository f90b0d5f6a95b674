package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/mail"
	"strings"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/qmail"
)

// maxReceiptHead bounds the header section in which a receipt is looked for, in bytes.
const maxReceiptHead = 1 << 20

// done is the exit status of what has no more to say.
const done = 0

// receiptField asks for a receipt: whose addresses want one of their delivery.
const receiptField = "Notice-Requested-Upon-Delivery-To"

// Receipt tells the sender that the message was delivered to an address, where a field
// Notice-Requested-Upon-Delivery-To of it has that address. Bounces, and what says that a
// program sent it (Auto-Submitted, RFC 3834), get none.
func (t *Tool) Receipt(ctx context.Context, args []string) int {
	if len(args) != 1 || !strings.Contains(args[0], "@") || strings.ContainsFunc(args[0], notPrintable) {
		return t.say(exitRefused, "usage: qreceipt ADDRESS")
	}
	if t.Getenv("RPLINE") == "" && t.Getenv("SENDER") == "" {
		return t.say(exitRefused, "SENDER is not set: this is for lines of .qmail files")
	}
	head, err := mail.ReadMessage(io.LimitReader(t.In, maxReceiptHead))
	if err != nil {
		return done // no header that could ask
	}
	sender := t.Getenv("SENDER")
	if sender == "" || sender == "#@[]" || strings.ContainsFunc(sender, notPrintable) || !asksFor(head.Header, args[0]) || automatic(head.Header) {
		return done
	}
	_, err = t.Hand(ctx, "", []string{sender}, strings.NewReader(receipt(head.Header, args[0], sender, time.Now())))
	switch {
	case errors.Is(err, ErrRefused):
		return t.say(exitRefused, "%v", err)
	case err != nil:
		return t.say(exitLater, "%v", err)
	}
	return done
}

func notPrintable(r rune) bool { return r < ' ' || r > '~' }

// asksFor tells whether a receipt of delivery to the address is asked for.
func asksFor(h mail.Header, address string) bool {
	for _, field := range h[receiptField] {
		list, _ := message.ParseMailboxes(field) // as far as it is one
		for _, one := range list {
			if strings.EqualFold(qmail.Text(one.Address), address) {
				return true
			}
		}
	}
	return false
}

// automatic tells whether a program says that it sent the message.
func automatic(h mail.Header) bool {
	said, _, _ := strings.Cut(h.Get("Auto-Submitted"), ";")
	said = strings.TrimSpace(said)
	return said != "" && !strings.EqualFold(said, "no")
}

// receipt is the whole message.
func receipt(h mail.Header, address, sender string, now time.Time) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	_, host, _ := strings.Cut(address[strings.LastIndexByte(address, '@'):], "@")
	line("Date: %s", now.Format(message.DateLayout))
	line("Message-ID: <%s@%s>", message.NewID(now), host)
	line("From: %s", &mail.Address{Name: "Delivery notice", Address: address})
	line("To: %s", &mail.Address{Address: sender})
	line("Subject: success notice")
	id := strings.TrimSpace(h.Get("Message-Id"))
	known := strings.HasPrefix(id, "<") && strings.HasSuffix(id, ">") && !strings.ContainsFunc(id, func(r rune) bool { return r == ' ' || notPrintable(r) })
	if known {
		line("In-Reply-To: %s", id)
	}
	line("Auto-Submitted: auto-replied\n")
	line("Your message was delivered to %s, as you asked to be told.", address)
	if known {
		line("Its Message-ID is %s", id)
	}
	return b.String()
}
