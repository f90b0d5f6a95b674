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
	to     string
}

// filed makes cases of messages in files: .eml, mbox, Maildirs and folders of
// them. The client, its HELO and the time are read from the topmost Received field.
func filed(ctx context.Context, c *config.Config, paths []string, o fileFacts) iter.Seq2[*pastMail, error] {
	return func(yield func(*pastMail, error) bool) {
		n := 0
		each := func(name string, text []byte) bool {
			n++
			return ctx.Err() == nil && yield(fromFile(c, fmt.Sprintf("%s#%d", name, n), text, o), nil)
		}
		for _, path := range paths {
			more, err := walkMail(path, each)
			if err != nil {
				yield(nil, err)
				return
			}
			if !more {
				return
			}
		}
	}
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
	receivedIP   = regexp.MustCompile(`\[(?:IPv6:)?([0-9A-Fa-f:.]{2,45})\]`)
	receivedHelo = regexp.MustCompile(`^\s*from\s+([^\s(]+)`)
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
	ip := o.client
	for f := range h.Named("Received") {
		value := f.Value()
		if m := receivedHelo.FindStringSubmatch(value); m != nil {
			p.session.Helo = m[1]
		}
		if m := receivedIP.FindStringSubmatch(value); m != nil && !o.client.IsValid() {
			if addr, err := netip.ParseAddr(m[1]); err == nil {
				ip = addr
			}
		}
		if i := strings.LastIndexByte(value, ';'); i >= 0 {
			if at, err := mail.ParseDate(strings.TrimSpace(value[i+1:])); err == nil {
				p.at = at
			}
		}
		break
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
