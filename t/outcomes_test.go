package t

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// outcome is what became of a message for one recipient.
type outcome struct {
	data    []byte
	chunked bool
	bounced string // status of the notice
}

var (
	failedFor = regexp.MustCompile(`(?ms)^Final-Recipient: rfc822; ?(\S+)\r?$.*?^Status: (\d\.\d\.\d+)`)
	// oursReceived is the field that we prepend.
	oursReceived = regexp.MustCompile(`^(?:Return-Path:[^\n]*\n)?(?:Delivered-To:[^\n]*\n)?Received: (?:from|by) (?:[^\n]*\n[ \t])*[^\n]*\+0000\r?\n`)
	// completion is what RFC 6409 section 8 adds.
	completion = regexp.MustCompile(`^(?:Message-ID: <[^>\s]+@mx\.example\.net>\r?\n)?(?:Date: [^\r\n]+\r?\n)?(?:From: <s@reports\.example>\r?\n)?(?:\r?\n)?$`)
)

// outcomes are those so far, by recipient.
func (p *pairs) outcomes() map[string]outcome {
	found := map[string]outcome{}
	for _, s := range p.sinks() {
		for _, a := range s.arrivals() {
			for _, r := range a.Rcpts {
				found[r] = outcome{data: a.Data, chunked: a.Chunked}
			}
		}
	}
	for _, a := range p.reports.arrivals() {
		for _, m := range failedFor.FindAllSubmatch(a.Data, -1) {
			found[string(m[1])] = outcome{bounced: string(m[2])}
		}
	}
	files, _ := filepath.Glob(filepath.Join(p.g.dir, "var/mail/box.example/*/new/*"))
	for _, file := range files {
		if b, err := os.ReadFile(file); err == nil {
			found[filepath.Base(filepath.Dir(filepath.Dir(file)))+"@box.example"] = outcome{data: b}
		}
	}
	return found
}

// check waits until every recipient has an outcome, and judges them all.
func (p *pairs) check() {
	p.t.Helper()
	want := len(p.passed) * len(pairDomains)
	got := p.outcomes()
	pollEvery(500*time.Millisecond, 3*time.Minute, func() bool {
		got = p.outcomes()
		return len(got) >= want
	})
	if len(got) != want {
		p.t.Errorf("%d outcomes, want %d", len(got), want)
	}
	var exact, rewritten, bounced int
	for _, one := range p.passed {
		for _, domain := range pairDomains {
			o, ok := got[one.token+"@"+domain]
			how := ""
			switch {
			case !ok:
				how = "nothing arrived"
			case o.bounced != "" && one.mayBounce(domain, o.bounced):
				bounced++
			case o.bounced != "":
				how = "bounced with " + o.bounced
			case one.exact(domain, o.data):
				exact++
			case one.same(domain, o.data):
				rewritten++
			default:
				how = "arrived as " + string(o.data[:min(len(o.data), 2000)])
			}
			if o.data != nil && domain == "bdat.example" && one.binary != o.chunked && bytes.HasSuffix(one.want, []byte("\r\n")) {
				how += " (by BDAT: it should not, or it should)"
			}
			if how != "" {
				p.t.Errorf("%q in by %s, out to %s: %s", one.name, one.in, domain, how)
			}
		}
	}
	for _, s := range append(p.sinks(), p.reports) {
		if f := s.faults(); len(f) > 0 {
			p.t.Errorf("what the gateway did wrong at a next hop:\n%s", strings.Join(f, "\n"))
		}
	}
	p.t.Logf("%d messages taken, %d refused for their line ends; %d arrived byte for byte, %d in another encoding with the same content, %d came back", len(p.passed), p.refused, exact, rewritten, bounced)
}

// exact tells whether a message is what was sent, behind the trace fields.
func (one *passage) exact(domain string, data []byte) bool {
	want := one.want
	switch domain {
	case "bdat.example":
	case "box.example":
		want = bytes.ReplaceAll(want, []byte("\r\n"), []byte("\n"))
	default:
		want = ended(want)
	}
	trace := oursReceived.FindIndex(data)
	if trace == nil {
		return false
	}
	rest := data[trace[1]:]
	if bytes.Equal(rest, want) {
		return true
	}
	if !one.completed || len(rest) < len(want) {
		return false
	}
	from := 0
	for from < len(want) && rest[from] == want[from] {
		from++
	}
	// What was put in may begin with the bytes that follow it.
	for more := len(rest) - len(want); from >= 0; from-- {
		if bytes.Equal(rest[from+more:], want[from:]) && completion.Match(rest[from:from+more]) {
			return true
		}
		if from > 0 && rest[from-1] != want[from-1] {
			break
		}
	}
	return false
}

func beyondASCII(b []byte) bool {
	return bytes.ContainsFunc(b, func(r rune) bool { return r >= 0x80 })
}

// unfit tells whether a host of the domain can't take the message as it is.
func (one *passage) unfit(domain string) bool {
	switch domain {
	case "plain.example":
		return one.binary || beyondASCII(one.want)
	case "piped.example", "lmtp.example":
		return one.binary
	}
	return false
}

// same tells whether a message for a host that could not take it as it was says
// the same in lines that the host can take.
func (one *passage) same(domain string, data []byte) bool {
	trace := oursReceived.FindIndex(data)
	if trace == nil || !one.unfit(domain) || bare(data) {
		return false
	}
	rest := data[trace[1]:]
	_, body := split(rest)
	if domain == "plain.example" && beyondASCII(body) && !headersBeyondASCII(rest) {
		return false
	}
	forms := [][]byte{one.want, ended(one.want)}
	if one.completed && !hasField(one.want) { // it got a header section
		forms = append(forms, slices.Concat([]byte("\r\n"), one.want))
	}
	return slices.ContainsFunc(forms, func(form []byte) bool { return slices.Equal(contents(rest), contents(form)) })
}

// headersBeyondASCII: header sections, of parts too, stay as they are.
func headersBeyondASCII(message []byte) bool {
	return !beyondASCII([]byte(strings.Join(contents(message), ""))) || beyondASCII(message[:bytes.Index(append(message, "\r\n\r\n"...), []byte("\r\n\r\n"))])
}

// mayBounce tells whether a message may come back for that reason.
func (one *passage) mayBounce(domain, status string) bool {
	return one.unfit(domain) && (status == "5.6.3" || status == "5.6.1")
}
