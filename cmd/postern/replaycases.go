package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"net/mail"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/postern-mta/postern/core/config"
	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/record"
	"github.com/postern-mta/postern/hooks"
)

// This file is what a replay runs over: mail that the recorder keeps, or files.

// pastMail is one transaction as it was, and what came of it where that is known.
type pastMail struct {
	id         string
	at         time.Time
	session    hooks.Session
	sender     string
	recipients []string
	params     []hooks.Param
	text       []byte // the message, or its header section
	whole      bool
	subject    string
	lookups    []hooks.Lookup
	was        *judgement
	label      string // of files
}

// recorded makes cases of stories.
func recorded(stories iter.Seq2[record.Story, error]) iter.Seq2[*pastMail, error] {
	return func(yield func(*pastMail, error) bool) {
		for s, err := range stories {
			if err != nil {
				yield(nil, err)
				return
			}
			if s.Verdict == "" || s.Protocol == "local" || s.Protocol == "double-bounce" || s.Client == "" {
				continue // mail made here is not what policies are changed for
			}
			if !yield(fromStory(&s), nil) {
				return
			}
		}
	}
}

func fromStory(s *record.Story) *pastMail {
	p := &pastMail{
		id: s.ID, at: s.Time, sender: s.Sender, recipients: s.Recipients, subject: s.Subject, text: []byte(s.Header),
		session: hooks.Session{
			Listener: s.Listener, Protocol: s.Protocol, Helo: s.Helo, Extended: s.Extended, User: s.User, Authenticated: s.User != "",
			Relaying: s.Relaying, Started: s.Time,
		},
	}
	if s.Message != "" {
		p.text, p.whole = []byte(s.Message), int64(len(s.Message)) >= s.Size
	}
	if ip, err := netip.ParseAddr(s.Client); err == nil {
		p.session.Client = netip.AddrPortFrom(ip, uint16(s.Port))
	}
	if local, err := netip.ParseAddrPort(s.Local); err == nil {
		p.session.Local = local
	}
	if version, cipher, ok := strings.Cut(s.TLS, " "); ok {
		p.session.TLS = &hooks.TLSFact{Version: version, Cipher: cipher}
	}
	for _, one := range s.Params {
		p.params = append(p.params, hooks.Param{Key: one[0], Value: one[1]})
	}
	for _, step := range s.Stages {
		for _, h := range step.Handlers {
			for _, l := range h.Lookups {
				p.lookups = append(p.lookups, hooks.Lookup{Kind: l.Kind, Question: l.Question, Answer: l.Answer, Error: l.Error})
			}
		}
	}
	p.was = wasJudged(s)
	return p
}

// wasJudged is the judgement that a story tells of.
func wasJudged(s *record.Story) *judgement {
	j := &judgement{Verdict: s.Verdict, Policy: s.Policy, Reply: s.Reply}
	if j.Verdict == record.Relayed.String() {
		j.Verdict = record.Queued.String()
	}
	for _, step := range s.Stages {
		for _, h := range step.Handlers {
			if !h.Shadow && h.Policy == s.Policy && h.Decision != "pass" && h.Decision != "accept" {
				j.Stage = step.Stage
			}
		}
	}
	for _, r := range s.Refusals {
		if r.Stage == hooks.Rcpt.String() && r.Recipient != "" {
			j.refused = append(j.refused, r.Recipient)
			if j.Stage == "" && j.Policy == r.Policy {
				j.Stage = r.Stage
			}
		}
	}
	return j
}

// fileFacts is what files do not tell by themselves.
type fileFacts struct {
	client netip.Addr
	behind []netip.Prefix // relays of ours that wrote the topmost Received fields
	to     string
}

// files are paths with messages, and what is known of all of them: that people sent
// them ("ham"), that they are spam, or nothing.
type files struct {
	label string
	paths []string
}

// filed makes cases of messages in files: .eml, mbox, Maildirs and folders of
// them, in the order in which they came. The client, its HELO and the time are read
// from a Received field.
func filed(ctx context.Context, c *config.Config, all []files, o fileFacts) iter.Seq2[*pastMail, error] {
	return func(yield func(*pastMail, error) bool) {
		spool, err := os.CreateTemp("", "postern-replay-")
		if err != nil {
			yield(nil, err)
			return
		}
		defer os.Remove(spool.Name())
		defer spool.Close()
		list, err := inOrder(ctx, c, all, o, spool)
		if err != nil {
			yield(nil, err)
			return
		}
		for _, f := range list {
			p := *f.p // whoever takes it needs its text for longer than this loop
			p.text = make([]byte, f.size)
			if _, err := spool.ReadAt(p.text, f.at); err != nil {
				yield(nil, err)
				return
			}
			if ctx.Err() != nil || !yield(&p, nil) {
				return
			}
		}
	}
}

// spooled is a case whose text lies in a file.
type spooled struct {
	p        *pastMail
	at, size int64
}

// inOrder reads all files, leaves the messages in spool and gives them in their order.
func inOrder(ctx context.Context, c *config.Config, all []files, o fileFacts, spool io.Writer) (list []spooled, err error) {
	var at int64
	out := bufio.NewWriter(spool)
	for _, some := range all {
		for _, path := range some.paths {
			more, err := walkMail(path, func(name string, text []byte) bool {
				p := fromFile(c, fmt.Sprintf("%s#%d", name, len(list)+1), text, o)
				p.label = some.label
				list = append(list, spooled{p, at, int64(len(p.text))})
				_, _ = out.Write(p.text) // Flush tells its error
				at += int64(len(p.text))
				p.text = nil
				return ctx.Err() == nil
			})
			if err != nil {
				return nil, err
			}
			if !more {
				return nil, context.Cause(ctx)
			}
		}
	}
	slices.SortStableFunc(list, func(a, b spooled) int { return a.p.at.Compare(b.p.at) })
	return list, out.Flush()
}

// maxReplayed bounds one message in a file, in bytes.
const maxReplayed = 64 << 20

// walkMail calls each with every message below path.
func walkMail(path string, each func(name string, text []byte) bool) (more bool, err error) {
	more = true
	err = filepath.WalkDir(path, func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && d.Name() == "tmp" && isMaildir(filepath.Dir(name)):
			return fs.SkipDir
		case d.IsDir(), strings.HasPrefix(d.Name(), "."):
			return nil
		}
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		r := bufio.NewReaderSize(f, 64<<10)
		if start, _ := r.Peek(5); string(start) == "From " {
			more, err = splitMbox(r, func(text []byte) bool { return each(name, text) })
		} else {
			var text []byte
			if text, err = io.ReadAll(io.LimitReader(r, maxReplayed)); err == nil {
				more = each(name, text)
			}
		}
		if err == nil && !more {
			return fs.SkipAll
		}
		return err
	})
	return more, err
}

func isMaildir(dir string) bool {
	for _, sub := range []string{"cur", "new"} {
		if st, err := os.Stat(filepath.Join(dir, sub)); err != nil || !st.IsDir() {
			return false
		}
	}
	return true
}

// splitMbox reads the messages of an mbox (RFC 4155; lines that were quoted with
// > lose one).
func splitMbox(r *bufio.Reader, each func([]byte) bool) (more bool, err error) {
	var text []byte
	begun, blank := false, true
	for {
		line, err := r.ReadBytes('\n')
		if len(line) > 0 {
			switch {
			case blank && bytes.HasPrefix(line, []byte("From ")):
				if begun && !each(text) {
					return false, nil
				}
				begun, text = true, nil
			default:
				if rest := bytes.TrimLeft(line, ">"); len(rest) < len(line) && bytes.HasPrefix(rest, []byte("From ")) {
					line = line[1:]
				}
				if len(text)+len(line) <= maxReplayed {
					text = append(text, line...)
				}
			}
			blank = len(bytes.TrimRight(line, "\r\n")) == 0
		}
		if errors.Is(err, io.EOF) {
			return !begun || each(text), nil
		}
		if err != nil {
			return false, err
		}
	}
}

var (
	// Of a Received field that Postfix and most others write, from HELO (HOST [IP]), and
	// of qmail's, from HOST (HELO h) (INFO@IP).
	receivedIP   = regexp.MustCompile(`\[(?:IPv6:)?([0-9A-Fa-f:.]{2,45})\]|\((?:[^()\s]*[@\s])?([0-9]{1,3}(?:\.[0-9]{1,3}){3})\)`)
	receivedHelo = regexp.MustCompile(`^\s*from\s+([^\s(]+)`)
	qmailHelo    = regexp.MustCompile(`\(HELO ([^\s()]+)\)`)
	receivedHost = regexp.MustCompile(`\((?:[^\s()@]+@)?([A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+)\.? \[[0-9A-Fa-f:.IPv]+\]\)`)
	oneAddress   = regexp.MustCompile(`<([^<>\s]+@[^<>\s]+)>|([^\s<>,;"]+@[^\s<>,;"]+)`)
)

func fromFile(c *config.Config, name string, text []byte, o fileFacts) *pastMail {
	text = crlf(text)
	n, _ := message.HeaderLen(text)
	h := message.ParseHeader(text[:n])
	p := &pastMail{id: name, at: time.Now(), text: text, whole: true}
	p.subject, _ = h.Get("Subject")
	p.session = hooks.Session{Protocol: "smtp", Extended: true, Helo: "unknown"}
	if len(c.Listen) > 0 {
		p.session.Listener = c.Listen[0].Name
	}
	hop := came(h, o)
	if hop.helo != "" {
		p.session.Helo = hop.helo
	}
	if hop.host != "" { // which only somebody knows who looked
		p.lookups = append(p.lookups, hooks.Lookup{Kind: "host", Question: hop.ip.String(), Answer: hop.host})
	}
	if hop.at.IsZero() {
		hop.at = dated(h)
	}
	if !hop.at.IsZero() {
		p.at = hop.at
	}
	ip := hop.ip
	if o.client.IsValid() {
		ip = o.client
	}
	if !ip.IsValid() {
		ip = netip.AddrFrom4([4]byte{192, 0, 2, 1})
	}
	p.session.Client, p.session.Started = netip.AddrPortFrom(ip, 4321), p.at
	p.sender = firstAddress(h, "Return-Path", "X-Envelope-From", "From")
	to := o.to
	if to == "" {
		to = ownAddress(c, h)
	}
	p.recipients = []string{to}
	return p
}

// hop is how a message came to a server, as its Received field tells.
type hop struct {
	ip         netip.Addr
	helo, host string
	at         time.Time
}

// maxHops bounds the Received fields that are looked at.
const maxHops = 20

// came is the topmost hop whose client is neither this host nor a relay of ours; the
// topmost one where there is none.
func came(h *message.Header, o fileFacts) hop {
	var first hop
	n := 0
	for f := range h.Named("Received") {
		one := readHop(f.Value())
		if n == 0 {
			first = one
		}
		if one.ip.IsValid() && !one.ip.IsLoopback() && !slices.ContainsFunc(o.behind, func(p netip.Prefix) bool { return p.Contains(one.ip) }) {
			return one
		}
		if n++; n == maxHops {
			break
		}
	}
	return first
}

func readHop(received string) (h hop) {
	if m := receivedHelo.FindStringSubmatch(received); m != nil {
		h.helo = m[1]
	}
	if m := receivedHost.FindStringSubmatch(received); m != nil && m[1] != "unknown" {
		h.host = strings.ToLower(m[1])
	}
	if m := receivedIP.FindStringSubmatch(received); m != nil {
		h.ip, _ = netip.ParseAddr(m[1] + m[2]) // none where it isn't one
		h.ip = h.ip.Unmap()
	}
	if m := qmailHelo.FindStringSubmatch(received); m != nil { // qmail names the host first
		h.helo = m[1]
	}
	if i := strings.LastIndexByte(received, ';'); i >= 0 {
		h.at, _ = mail.ParseDate(strings.TrimSpace(received[i+1:])) // none where it can't be read
	}
	return h
}

// dated is when a message without Received fields was delivered, or else written; zero
// where it does not say.
func dated(h *message.Header) time.Time {
	delivered, _ := h.Get("Delivery-Date")
	if at, err := time.Parse(time.ANSIC, strings.TrimSpace(delivered)); err == nil {
		return at
	}
	for _, name := range []string{"Delivery-Date", "Date"} {
		text, _ := h.Get(name)
		if at, err := mail.ParseDate(strings.TrimSpace(text)); err == nil && at.Before(time.Now()) {
			return at
		}
	}
	return time.Time{}
}

// crlf gives every line its CRLF.
func crlf(text []byte) []byte {
	text = bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))
	return bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n"))
}

func firstAddress(h *message.Header, names ...string) string {
	for _, name := range names {
		for f := range h.Named(name) {
			if strings.TrimSpace(f.Value()) == "<>" {
				return ""
			}
			if m := oneAddress.FindStringSubmatch(f.Value()); m != nil {
				return m[1] + m[2]
			}
		}
	}
	return ""
}

// ownAddress is whom a message of a file was for: an address of one of our
// domains that it names, else somebody at the first of them.
func ownAddress(c *config.Config, h *message.Header) string {
	var ours []string
	for i := range c.Domains {
		ours = append(ours, c.Domains[i].Names...)
	}
	for _, name := range []string{"Delivered-To", "X-Original-To", "Envelope-To", "To", "Cc"} {
		for f := range h.Named(name) {
			for _, m := range oneAddress.FindAllStringSubmatch(f.Value(), 50) {
				if a, err := message.ParseAddress(m[1] + m[2]); err == nil && hooks.MatchDomain(ours, a.Domain) {
					return a.String()
				}
			}
		}
	}
	i := slices.IndexFunc(ours, func(s string) bool { return !strings.Contains(s, "*") })
	if i < 0 {
		return "postmaster@" + c.Server.Hostname
	}
	return "postmaster@" + ours[i]
}
