package qmail

import (
	"fmt"
	"strings"

	"github.com/postern-mta/postern/core/message"
)

// Status is how a queue program ended: its exit status. It is an error but for
// Queued.
type Status int

// The exit statuses (qmail-queue(8)).
const (
	Queued           Status = 0
	AddressTooLong   Status = 11
	Refused          Status = 31 // for good
	NoMemory         Status = 51
	TimedOut         Status = 52
	WriteFailed      Status = 53 // mostly a full disk
	ReadFailed       Status = 54 // or an envelope that ends early, by which callers take a message back
	NoConfiguration  Status = 55
	NoNetwork        Status = 56
	NoHome           Status = 61
	NoQueue          Status = 62
	NoSpool          Status = 63
	NoMess           Status = 64
	NoEnvelope       Status = 65
	NoTodo           Status = 66
	Deferred         Status = 71
	ConnectionTimed  Status = 72
	ConnectionFailed Status = 73
	Communication    Status = 74
	Bug              Status = 81
	Custom           Status = 82 // descriptor 6 has the reason
	BadEnvelope      Status = 91
	NoProgram        Status = 120 // of the caller: it could not be run
)

// statuses is what callers make of them. Those that are not here are temporary,
// but for 11 to 40.
var statuses = map[Status]struct {
	permanent bool
	enhanced  string
	text      string
}{
	AddressTooLong:   {true, "5.1.3", "an envelope address is too long"},
	115:              {true, "5.1.3", "an envelope address is too long"},
	Refused:          {true, "5.3.0", "mail server permanently rejected the message"},
	NoMemory:         {false, "4.3.0", "the queue program is out of memory"},
	TimedOut:         {false, "4.3.0", "the queue program took too long"},
	WriteFailed:      {false, "4.3.1", "the queue can't be written; the disk may be full"},
	ReadFailed:       {false, "4.3.0", "the queue program could not read the message"},
	NoConfiguration:  {false, "4.3.5", "the mail server's configuration can't be read"},
	NoNetwork:        {false, "4.4.1", "the queue program has no network"},
	NoHome:           {false, "4.3.0", "the mail server's folder can't be used"},
	NoQueue:          {false, "4.3.0", "the queue's folder can't be used"},
	NoSpool:          {false, "4.3.0", "the queue takes no new file"},
	NoMess:           {false, "4.3.0", "the queue takes no message"},
	NoEnvelope:       {false, "4.3.0", "the queue takes no envelope"},
	NoTodo:           {false, "4.3.0", "the message can't be put in its place in the queue"},
	Deferred:         {false, "4.3.0", "mail server temporarily rejected the message"},
	ConnectionTimed:  {false, "4.4.1", "connection to the mail server timed out"},
	ConnectionFailed: {false, "4.4.1", "the mail server rejects connections"},
	Communication:    {false, "4.4.2", "communication with the mail server failed"},
	Bug:              {false, "4.3.0", "internal error of the queue program"},
	Custom:           {false, "4.3.0", "the queue program failed and did not say why"},
	BadEnvelope:      {false, "4.3.0", "the envelope is malformed"},
	NoProgram:        {false, "4.3.0", "the queue program can't be run"},
}

// Reply is what a client is told about a status other than Queued.
func (s Status) Reply() message.Reply {
	one, ok := statuses[s]
	switch {
	case ok && one.permanent, !ok && s >= 11 && s <= 40:
		if !ok {
			one.enhanced, one.text = "5.3.0", statuses[Refused].text
		}
		return message.NewReply(554, one.enhanced, "%s", one.text)
	case !ok:
		return message.NewReply(451, "4.3.0", "the queue program ended with status %d", int(s))
	}
	return message.NewReply(451, one.enhanced, "%s", one.text)
}

func (s Status) Error() string {
	if one, ok := statuses[s]; ok {
		return fmt.Sprintf("exit status %d: %s", int(s), one.text)
	}
	return fmt.Sprintf("exit status %d", int(s))
}

// maxText is how much of a reason is passed on, as qmail's callers read it.
const maxText = 255

// Reason is a refusal as descriptor 6 and the answers of QMQP and QMTP have it: D for a
// permanent one, Z for a temporary one, words, and the enhanced code in qmail's form.
func Reason(r message.Reply) string {
	letter := "Z"
	if r.Permanent() {
		letter = "D"
	}
	code := ""
	if s := r.Status(); s != "" {
		code = " (#" + s + ")"
	}
	text := strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f {
			return ' '
		}
		return c
	}, r.Text)
	if room := maxText - len(letter) - len(code); len(text) > room {
		text = strings.ToValidUTF8(text[:room], "")
	}
	return letter + text + code
}

// Said is the refusal that a Reason tells; ok is false where it tells none.
func Said(text string) (r message.Reply, ok bool) {
	if len(text) <= 2 {
		return r, false
	}
	code, enhanced := 451, "4.3.0"
	switch text[0] {
	case 'D':
		code, enhanced = 554, "5.3.0"
	case 'Z':
	default:
		return r, false
	}
	text = strings.TrimRight(strings.ToValidUTF8(text[1:], "?"), "\r\n")
	if at := strings.LastIndex(text, "(#"); at >= 0 {
		if own := message.NewReply(code, strings.TrimSuffix(text[at+2:], ")"), "x"); strings.HasSuffix(text, ")") && own.Status() != "" && own.Status()[0] == enhanced[0] {
			enhanced, text = own.Status(), strings.TrimRight(text[:at], " ")
		}
	}
	return message.NewReply(code, enhanced, "%s", text), true
}
