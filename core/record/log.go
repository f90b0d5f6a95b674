package record

import (
	"context"
	"log/slog"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
)

// The log's events of mail and their keys. docs/log.md shows the same table to
// operators. Every event about a message has id, from MAIL to the last attempt;
// every event about a connection has session.
//
//	event         level  keys
//	connected     debug  session client listener protocol
//	disconnected  debug  session client messages refused duration
//	refused       info   id? session client helo? origin? sender? recipient? stage policy? reply
//	queued        info   id session client helo origin? sender recipients first size subject? score? reply duration
//	relayed       info   as queued
//	held          info   as queued, and policy? stage? reason?
//	quarantined   info   as held
//	discarded     info   as held
//	rejected      info   as held; of a connection: session client policy? stage? reply
//	deferred      info   as rejected
//	delivered     info   id sender recipient next_hop peer tls? reply attempt duration age size
//	deferred      info   the same: told from a verdict by next_hop
//	bounced       info   the same
//	left          info   id age
//	released      info   id by reason?: what an operator or a rule did to a queued message
//	held          info   the same: told from a verdict by "by"
//	rerouted      info   the same
//	returned      info   the same: given up by an operator; its bounce has lines of its own
//	imported      info   the same
//	deleted       info   the same
//	expired       info   the same
//
// "origin" is what XFORWARD told of the client behind a trusted one. "first" is the first recipient, "recipients" their number. Values from the wire
// are quoted by the log's handler.
//
// emit writes one of them.
func (r *Recorder) emit(level slog.Level, event string, attrs ...slog.Attr) {
	r.log.LogAttrs(context.Background(), level, event, attrs...)
}

func (r *Recorder) logs(level slog.Level) bool {
	return r.log.Enabled(context.Background(), level)
}

func (r *Recorder) logConnected(s *hooks.Session) {
	if r.logs(slog.LevelDebug) {
		r.emit(slog.LevelDebug, "connected", slog.String("session", s.ID), slog.String("client", s.Client.String()),
			slog.String("listener", s.Listener), slog.String("protocol", s.Protocol))
	}
}

func (r *Recorder) logDisconnected(s *hooks.Session) {
	if r.logs(slog.LevelDebug) {
		r.emit(slog.LevelDebug, "disconnected", slog.String("session", s.ID), slog.String("client", s.Client.String()),
			slog.Int("messages", s.Totals.Messages), slog.Int("refused", s.Totals.Refused), slog.Duration("duration", s.Totals.Duration))
	}
}

// start is the attributes that refusals and verdicts have in common.
func start(tx *hooks.Transaction, e *Event) []slog.Attr {
	list := make([]slog.Attr, 0, 16)
	if tx.ID != "" {
		list = append(list, slog.String("id", tx.ID))
	}
	list = append(list, slog.String("session", tx.Session.ID))
	if e.Client.IsValid() {
		list = append(list, slog.String("client", e.Client.String()))
	}
	list = optional(list, "helo", tx.Session.Helo)
	list = optional(list, "origin", tx.Session.Forwarded.String())
	if tx.ID != "" {
		list = append(list, slog.String("sender", e.Sender))
	}
	return list
}

func optional(list []slog.Attr, key, value string) []slog.Attr {
	if value == "" {
		return list
	}
	return append(list, slog.String(key, clip(value, maxText)))
}

func reply(list []slog.Attr, r message.Reply) []slog.Attr {
	if r.IsZero() {
		return list
	}
	return append(list, slog.String("reply", clip(r.String(), maxText)))
}

func (r *Recorder) logRefused(tx *hooks.Transaction, e *Event) {
	if !r.logs(slog.LevelInfo) {
		return
	}
	list := optional(start(tx, e), "recipient", e.Recipient)
	list = append(list, slog.String("stage", e.Stage))
	list = optional(list, "policy", e.Policy)
	r.emit(slog.LevelInfo, "refused", reply(list, e.Reply)...)
}

func (r *Recorder) logVerdict(tx *hooks.Transaction, e *Event, d *draft) {
	if !r.logs(slog.LevelInfo) {
		return
	}
	list := start(tx, e)
	if tx.ID != "" {
		list = append(list, slog.Int("recipients", max(len(tx.Recipients), len(d.seen))), slog.String("first", e.Recipient), slog.Int64("size", d.size))
		list = optional(list, "subject", d.subject)
		if len(d.scores) > 0 {
			list = append(list, slog.Float64("score", tx.Total()))
		}
	}
	list = optional(list, "policy", e.Policy)
	list = optional(list, "stage", e.Stage)
	list = optional(list, "reason", e.Reason)
	list = append(reply(list, e.Reply), slog.Duration("duration", d.ended.Sub(d.started)))
	r.emit(slog.LevelInfo, e.Verdict, list...)
}

func (r *Recorder) logAttempt(id string, a *Attempt) {
	if !r.logs(slog.LevelInfo) {
		return
	}
	list := make([]slog.Attr, 0, 12)
	list = append(list, slog.String("id", id), slog.String("sender", a.Sender), slog.String("recipient", a.Recipient),
		slog.String("next_hop", a.NextHop), slog.String("peer", clip(a.Peer, maxText)))
	list = reply(optional(list, "tls", a.TLS), a.Reply)
	r.emit(slog.LevelInfo, a.Outcome, append(list, slog.Int("attempt", a.Attempt), slog.Duration("duration", a.Duration),
		slog.Duration("age", a.Age.Round(time.Millisecond)), slog.Int64("size", a.Size))...)
}

func (r *Recorder) logLeft(id string, age time.Duration) {
	if r.logs(slog.LevelInfo) {
		r.emit(slog.LevelInfo, "left", slog.String("id", id), slog.Duration("age", age.Round(time.Millisecond)))
	}
}
