package record

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
)

// A record begins with a byte for its kind and version; decode.go reads what is
// written here. Numbers are varints, texts have their length in front, times are
// microseconds since 1970, and names stand as words rather than numbers, so that
// a record outlives a change of our tables. A record of version 1 has no look-ups,
// and a story of version 1 ends with the message.
const (
	storyRecord   = 0x12
	lateRecord    = 0x22
	attemptRecord = 0x31
	leftRecord    = 0x41
)

func putInt(b []byte, n int64) []byte { return binary.AppendVarint(b, n) }

func putText(b []byte, s string) []byte {
	s = clip(s, maxText)
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

func putTime(b []byte, t time.Time) []byte { return binary.AppendVarint(b, t.UnixMicro()) }

func putFloat(b []byte, f float64) []byte {
	return binary.BigEndian.AppendUint64(b, math.Float64bits(f))
}

func putBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

func putReply(b []byte, r message.Reply) []byte {
	b = binary.AppendUvarint(b, uint64(max(r.Code, 0)))
	if r.Code <= 0 {
		return b
	}
	for _, n := range r.Enhanced {
		b = binary.AppendUvarint(b, uint64(max(n, 0)))
	}
	return putText(b, r.Text)
}

func putRun(b []byte, run *hooks.StageRun) []byte {
	b = putText(b, run.Stage.String())
	b = putTime(b, run.Time)
	b = putText(b, run.Recipient)
	n := min(len(run.Handlers), maxRuns)
	b = binary.AppendUvarint(b, uint64(n))
	for i := range run.Handlers[:n] {
		h := &run.Handlers[i]
		b = putText(b, h.Policy)
		b = putText(b, h.Verb.String())
		b = putReply(b, h.Reply)
		b = putText(b, h.Reason)
		b = putInt(b, h.Duration.Microseconds())
		edits := min(len(h.Edits), maxEdits)
		b = binary.AppendUvarint(b, uint64(edits))
		for _, e := range h.Edits[:edits] {
			b = putText(b, editText(e))
		}
		b = putBool(b, h.Shadow)
		failure := ""
		if h.Err != nil {
			failure = firstLine(h.Err.Error())
		}
		b = putText(b, failure)
		b = binary.AppendUvarint(b, uint64(len(h.Lookups)))
		for i := range h.Lookups {
			l := &h.Lookups[i]
			b = putText(putText(putText(putText(b, l.Kind), l.Question), l.Answer), l.Error)
		}
	}
	return b
}

// editText bounds what an edit is printed from: a value may be a whole tree.
func editText(e hooks.Edit) string {
	if e.Kind == hooks.ReplaceBody || e.Kind == hooks.AddFooter {
		return clip(e.String(), maxText)
	}
	e.Name, e.Value = clip(e.Name, maxText), clip(e.Value, maxText)
	if e.Any == nil {
		return e.String()
	}
	return fmt.Sprintf("%s %s = %s", e.Kind, e.Name, plain(e.Any))
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

func putRuns(b []byte, runs []hooks.StageRun) []byte {
	for i := range runs {
		b = putRun(b, &runs[i])
	}
	return b
}

// encode implements entry.
func (d *draft) encode(b []byte) []byte {
	b = append(b, storyRecord)
	b = putText(b, d.id)
	b = putText(b, d.session)
	b = putTime(b, d.started)
	b = putTime(b, d.ended)
	b = putText(b, d.verdict.String())
	b = putReply(b, d.reply)
	b = putText(b, d.reason)
	b = putText(b, d.by)
	b = putFacts(b, &d.facts)
	d.from, d.to = d.sender.String(), d.allRecipients()
	list := d.to
	b = putText(b, d.from)
	kept := min(len(list), maxRecipients)
	b = binary.AppendUvarint(b, uint64(kept))
	for _, one := range list[:kept] {
		b = putText(b, one)
	}
	b = putInt(b, int64(len(list)-kept))
	b = putInt(b, d.size)
	b = putText(b, d.subject)
	scores := min(len(d.scores), maxRuns)
	b = binary.AppendUvarint(b, uint64(scores))
	for _, s := range d.scores[:scores] {
		b = putText(b, s.Name)
		b = putFloat(b, s.Points)
		b = putText(b, s.Why)
	}
	tags := min(len(d.tags), maxRuns)
	b = binary.AppendUvarint(b, uint64(tags))
	for _, t := range d.tags[:tags] {
		b = putText(b, t)
	}
	b = putText(b, d.route)
	b = binary.AppendUvarint(b, uint64(len(d.sessionRuns)+len(d.runs)))
	b = putRuns(putRuns(b, d.sessionRuns), d.runs)
	b = binary.AppendUvarint(b, uint64(len(d.refusals)))
	for i := range d.refusals {
		f := &d.refusals[i]
		b = putText(b, f.stage.String())
		b = putTime(b, f.time)
		b = putText(b, f.recipient)
		b = putText(b, f.by)
		b = putReply(b, f.reply)
	}
	b = putInt(b, int64(d.leftOut+d.unkept))
	b = putBytes(b, d.message)
	b = putBytes(b, d.header)
	local := ""
	if d.facts.local.IsValid() {
		local = d.facts.local.String()
	}
	b = putText(b, local)
	b = putBool(putBool(b, d.facts.extended), d.facts.relaying)
	params := min(len(d.params), maxRuns)
	b = binary.AppendUvarint(b, uint64(params))
	for _, p := range d.params[:params] {
		b = putText(putText(b, p.Key), p.Value)
	}
	return b
}

func putBytes(b, p []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(p)))
	return append(b, p...)
}

func putFacts(b []byte, f *facts) []byte {
	client := ""
	if f.client.Addr().IsValid() {
		client = f.client.Addr().Unmap().String()
	}
	b = putText(b, client)
	b = putInt(b, int64(f.client.Port()))
	b = putText(b, f.listener)
	b = putText(b, f.protocol)
	b = putText(b, f.helo)
	tls := ""
	if f.tls != nil {
		tls = f.tls.Version + " " + f.tls.Cipher
	}
	b = putText(b, tls)
	return putText(b, f.user)
}

// allRecipients is the transaction's recipients and then those that were refused.
func (d *draft) allRecipients() []string {
	refused := d.refusedOnly()
	list := make([]string, 0, len(d.recipients)+len(refused))
	for _, a := range d.recipients {
		list = append(list, a.String())
	}
	if len(refused) == 0 {
		return list
	}
	have := make(map[string]struct{}, len(list)+len(refused))
	for _, s := range list {
		have[s] = struct{}{}
	}
	for _, s := range refused {
		if _, ok := have[s]; !ok {
			have[s] = struct{}{}
			list = append(list, s)
		}
	}
	return list
}

// refusedOnly is the recipients that were seen and are not the message's: all of
// them where there was no verdict, else those that have a refusal.
func (d *draft) refusedOnly() []string {
	if len(d.recipients) == 0 {
		return d.seen
	}
	var list []string
	for i := range d.refusals {
		if d.refusals[i].recipient != "" {
			list = append(list, d.refusals[i].recipient)
		}
	}
	return list
}

// words implements entry.
func (d *draft) words(f func(kind byte, word string)) {
	f(byMessage, d.id)
	f(bySession, d.session)
	if ip := d.facts.client.Addr().Unmap(); ip.IsValid() {
		f(byClient, clientWord(ip))
		for _, bits := range networkBits(ip) {
			f(byNetwork, networkWord(ip, bits))
		}
	}
	f(byAddress, lower(d.from))
	f(byDomain, lower(d.sender.Domain))
	for i, s := range d.to {
		if i >= maxRecipients && i < len(d.recipients) {
			continue
		}
		s = lower(s)
		f(byAddress, s)
		f(byDomain, s[strings.LastIndexByte(s, '@')+1:])
	}
	f(byVerdict, d.verdict.String())
	f(byPolicy, d.by)
	for i := range d.refusals {
		f(byPolicy, d.refusals[i].by)
	}
	speakers(d.sessionRuns, f)
	speakers(d.runs, f)
}

// speakers calls f with the policies that said more than pass.
func speakers(runs []hooks.StageRun, f func(kind byte, word string)) {
	for i := range runs {
		for j := range runs[i].Handlers {
			if h := &runs[i].Handlers[j]; h.Verb != hooks.Pass || len(h.Edits) > 0 || h.Err != nil {
				f(byPolicy, h.Policy)
			}
		}
	}
}

// encode implements entry.
func (l *late) encode(b []byte) []byte {
	b = append(b, lateRecord)
	b = putText(b, l.id)
	b = putText(b, l.session)
	return putRun(b, &l.run)
}

// words implements entry.
func (l *late) words(f func(kind byte, word string)) {
	f(byMessage, l.id)
	if l.id == "" {
		f(byLate, l.session)
	}
	for i := range l.run.Handlers {
		if h := &l.run.Handlers[i]; h.Verb != hooks.Pass || len(h.Edits) > 0 || h.Err != nil {
			f(byPolicy, h.Policy)
		}
	}
}

// encode implements entry.
func (t *attempted) encode(b []byte) []byte {
	a := &t.a
	b = append(b, attemptRecord)
	b = putText(b, t.id)
	b = putTime(b, a.Time)
	for _, s := range [...]string{a.Recipient, a.Sender, a.NextHop, a.Peer, a.TLS, a.Outcome} {
		b = putText(b, s)
	}
	b = putReply(b, a.Reply)
	b = putInt(b, a.Duration.Microseconds())
	b = putInt(b, int64(a.Attempt))
	b = putInt(b, a.Size)
	return putInt(b, a.Age.Microseconds())
}

// words implements entry.
func (t *attempted) words(f func(kind byte, word string)) { f(byMessage, t.id) }

// encode implements entry.
func (l *left) encode(b []byte) []byte {
	b = append(b, leftRecord)
	b = putText(b, l.id)
	return putTime(b, l.time)
}

// words implements entry.
func (l *left) words(f func(kind byte, word string)) { f(byMessage, l.id) }

// clientWord is the word of a client's address.
func clientWord(ip netip.Addr) string { return ip.Unmap().WithZone("").String() }
