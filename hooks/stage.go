// Package hooks is Postern's vocabulary: at which points a policy is asked, what
// it sees and what it may answer. It is plain data and one interface, Handler.
//
//   - Stage and the table of stages (stage.go): the one place that says for each
//     stage which decisions are legal, what happens where nobody decides, and
//     which edits may be made. Documents, loaders and tests read this table.
//   - Decision and Edit (decision.go): what a handler answers.
//   - Session and Transaction (transaction.go): what a handler sees.
//   - Chain (chain.go): the handlers of one configuration generation in their
//     order. Run always answers: a handler that fails follows its failure policy.
//
// The mail path (package core/...) knows a *Chain and nothing behind it; Lua
// scripts, plugin processes and built-in rules are all Handlers.
package hooks

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/postern-mta/postern/core/message"
)

// Stage is a fixed point in the life of a connection, a message or a delivery.
type Stage uint8

// The stages, in the order in which one message meets them.
const (
	Connect Stage = iota + 1
	Helo
	TLS
	Auth
	Mail
	Rcpt
	Data
	Headers
	Message
	Queue
	Queued
	Command
	Deny
	Disconnect
	Route
	Attempt
	Delivered
	Deferred
	Bounced
	DSN
	Tick
	Load
	Unload
	stageEnd
)

// Scope is what a stage is about.
type Scope uint8

// The scopes.
const (
	OfConnection Scope = iota
	OfTransaction
	OfRecipient
	OfMessage
	OfDelivery
	OfPolicy
)

var scopeNames = [...]string{"connection", "transaction", "recipient", "message", "delivery", "policy"}

func (s Scope) String() string { return scopeNames[s] }

// Row is one line of the table of stages.
type Row struct {
	Stage   Stage
	Name    string
	Scope   Scope
	When    string        // when exactly it runs
	Verbs   []Verb        // what a handler may answer; Pass is always legal
	Observe bool          // the answer is ignored; runs beside the mail path
	Each    bool          // a handler may answer for each recipient by itself: Decision.Each
	Default string        // what happens where nobody decides
	Reject  message.Reply // a refusal that names no reply of its own
	Defer   message.Reply // a deferral that names no reply of its own
	Fields  string        // what is set in the transaction, beyond earlier stages
	Edits   []EditKind    // legal edits
}

var (
	refused  = message.Reply{Code: 550, Enhanced: [3]int{5, 7, 1}, Text: "Refused by policy"}
	refused4 = message.Reply{Code: 554, Enhanced: [3]int{5, 7, 1}, Text: "Refused by policy"}
	later    = message.Reply{Code: 450, Enhanced: [3]int{4, 7, 1}, Text: "Deferred by policy, please try again later"}
	badLogin = message.Reply{Code: 535, Enhanced: [3]int{5, 7, 8}, Text: "Authentication credentials invalid"}
	noLogin  = message.Reply{Code: 454, Enhanced: [3]int{4, 7, 0}, Text: "Temporary authentication failure, please try again later"}
	unknown  = message.Reply{Code: 502, Enhanced: [3]int{5, 5, 1}, Text: "Command refused by policy"}
	later1   = message.Reply{Code: 451, Enhanced: [3]int{4, 7, 1}, Text: "Deferred by policy, please try again later"}

	connEdits = []EditKind{SetConnNote, AddScore, AddTag, SetResult, SkipPolicy, Pardon}
	rcptEdits = []EditKind{SetRcptNote, AddRcptHeader, AppendRcptHeader, RemoveRcptHeader, SetNotify}
	envEdits  = slices.Concat([]EditKind{SetNote, SetSender, AddRecipient, RemoveRecipient, ReplaceRecipient, SetRoute, SetPriority, SetReturn}, rcptEdits, connEdits)
	txEdits   = slices.Concat([]EditKind{AddHeader, AppendHeader, ReplaceHeader, RemoveHeader}, envEdits)
	bodyEdits = slices.Concat([]EditKind{ReplaceBody, AddFooter}, txEdits)
	tellEdits = []EditKind{SetNote, SetConnNote}
	sendEdits = []EditKind{SetNote, SetRcptNote, AddTag, SetRoute}
	intake    = []Verb{Accept, Reject, Defer, Discard, Drop}
	late      = []Verb{Accept, Reject, Defer, Discard, Quarantine, Drop}
)

// table is the single source of what each stage allows.
var table = [stageEnd]Row{
	Connect:    {Stage: Connect, Name: "connect", Scope: OfConnection, When: "TCP accepted, before the greeting", Verbs: []Verb{Accept, Reject, Defer, Drop}, Default: "accept", Reject: refused4, Defer: later1, Fields: "conn: id, ip, port, local_ip, local_port, host, listener, protocol, relaying", Edits: connEdits},
	Helo:       {Stage: Helo, Name: "helo", Scope: OfConnection, When: "HELO or EHLO, before its reply", Verbs: []Verb{Accept, Reject, Defer, Drop}, Default: "accept", Reject: refused, Defer: later, Fields: "conn: helo, capabilities", Edits: append([]EditKind{AddCapability, RemoveCapability}, connEdits...)},
	TLS:        {Stage: TLS, Name: "tls", Scope: OfConnection, When: "after a TLS handshake", Verbs: []Verb{Accept, Reject, Defer, Drop}, Default: "accept", Reject: refused, Defer: later, Fields: "conn.tls", Edits: connEdits},
	Auth:       {Stage: Auth, Name: "auth", Scope: OfConnection, When: "credentials offered, before the reply", Verbs: []Verb{Accept, Reject, Defer, Drop}, Default: "the configured back-ends, else 535", Reject: badLogin, Defer: noLogin, Fields: "login: mechanism, user, password", Edits: connEdits},
	Mail:       {Stage: Mail, Name: "mail", Scope: OfTransaction, When: "MAIL FROM with its parameters", Verbs: intake, Default: "accept", Reject: refused, Defer: later, Fields: "tx: id, sender, params", Edits: envEdits},
	Rcpt:       {Stage: Rcpt, Name: "rcpt", Scope: OfRecipient, When: "each RCPT TO", Verbs: intake, Default: "the recipient rule", Reject: refused, Defer: later, Fields: "rcpt", Edits: envEdits},
	Data:       {Stage: Data, Name: "data", Scope: OfTransaction, When: "DATA or the first BDAT, before 354", Verbs: intake, Default: "accept", Reject: refused4, Defer: later1, Fields: "tx.recipients", Edits: envEdits},
	Headers:    {Stage: Headers, Name: "headers", Scope: OfTransaction, When: "header section complete; a refusal is sent after the end of data", Verbs: late, Default: "accept", Reject: refused4, Defer: later1, Fields: "tx.headers", Edits: txEdits},
	Message:    {Stage: Message, Name: "message", Scope: OfTransaction, When: "whole message received, before the final reply", Verbs: late, Each: true, Default: "accept", Reject: refused4, Defer: later1, Fields: "tx: body, size", Edits: bodyEdits},
	Queue:      {Stage: Queue, Name: "queue", Scope: OfTransaction, When: "about to be made durable", Verbs: append([]Verb{Hold}, late...), Each: true, Default: "accept", Reject: refused4, Defer: later1, Fields: "tx.total is final, tx.received", Edits: append([]EditKind{SetReceived}, bodyEdits...)},
	Queued:     {Stage: Queued, Name: "queued", Scope: OfMessage, When: "durable, 250 sent", Observe: true, Default: "nothing", Reject: refused4, Defer: later1, Fields: "tx", Edits: tellEdits},
	Command:    {Stage: Command, Name: "command", Scope: OfConnection, When: "VRFY, HELP, NOOP, RSET, QUIT, EXPN, ETRN and unrecognised commands, before the reply", Verbs: []Verb{Accept, Reject, Defer, Drop}, Default: "the command's own answer; an unrecognised one: 500", Reject: unknown, Defer: later, Fields: "line: verb, argument", Edits: connEdits},
	Deny:       {Stage: Deny, Name: "deny", Scope: OfConnection, When: "any negative reply is about to be sent", Verbs: []Verb{Accept, Reject, Defer, Drop}, Default: "the refusal stays", Reject: refused, Defer: later, Fields: "refusal: stage, policy, code, enhanced, text", Edits: connEdits},
	Disconnect: {Stage: Disconnect, Name: "disconnect", Scope: OfConnection, When: "connection over", Observe: true, Default: "nothing", Reject: refused, Defer: later, Fields: "conn.totals"},
	Route:      {Stage: Route, Name: "route", Scope: OfRecipient, When: "before the first attempt and after each deferral", Verbs: []Verb{Accept, Reject, Defer, Hold}, Default: "the routes of the configuration", Reject: refused, Defer: later, Fields: "rcpt, plan: next_hop, tls, source, retry", Edits: append([]EditKind{SetPlan}, sendEdits...)},
	Attempt:    {Stage: Attempt, Name: "attempt", Scope: OfDelivery, When: "about to open or reuse a connection to a next hop", Verbs: []Verb{Accept, Reject, Defer, Hold}, Default: "accept", Reject: refused, Defer: later, Fields: "try: attempt, next_hop, age", Edits: sendEdits},
	Delivered:  {Stage: Delivered, Name: "delivered", Scope: OfRecipient, When: "a recipient's next hop took the message", Observe: true, Default: "nothing", Reject: refused, Defer: later, Fields: "try: attempt, next_hop, peer, reply, age", Edits: tellEdits},
	Deferred:   {Stage: Deferred, Name: "deferred", Scope: OfRecipient, When: "an attempt failed for now (may override: retry at, give up, hold, reroute)", Verbs: []Verb{Accept, Reject, Defer, Hold}, Default: "the retry plan", Reject: refused, Defer: later, Fields: "try: attempt, next_hop, peer, reply, age", Edits: sendEdits},
	Bounced:    {Stage: Bounced, Name: "bounced", Scope: OfRecipient, When: "an attempt failed for good (may override: retry at, hold, reroute)", Verbs: []Verb{Accept, Reject, Defer, Hold}, Default: "a bounce", Reject: refused, Defer: later, Fields: "try: attempt, next_hop, peer, reply, age", Edits: sendEdits},
	DSN:        {Stage: DSN, Name: "dsn", Scope: OfMessage, When: "a bounce, delay or success notice is about to be queued (may suppress, redirect, edit)", Verbs: []Verb{Accept, Discard}, Default: "the notice is queued", Reject: refused, Defer: later, Fields: "notice: kind, recipients, to; tx.headers are the notice's", Edits: []EditKind{SetNotice, SetNote, AddTag, AddHeader, AppendHeader, ReplaceHeader, RemoveHeader}},
	Tick:       {Stage: Tick, Name: "tick", Scope: OfPolicy, When: "on the policy's own interval, `every`", Observe: true, Default: "nothing", Reject: refused, Defer: later},
	Load:       {Stage: Load, Name: "load", Scope: OfPolicy, When: "the policy's generation starts", Observe: true, Default: "nothing", Reject: refused, Defer: later},
	Unload:     {Stage: Unload, Name: "unload", Scope: OfPolicy, When: "the policy's generation is over", Observe: true, Default: "nothing", Reject: refused, Defer: later},
}

// Stages lists the table in order.
func Stages() []Row { return table[Connect:] }

// Row is the stage's line of the table.
func (s Stage) Row() *Row {
	if s == 0 || s >= stageEnd {
		return &Row{Name: fmt.Sprintf("stage %d", s)}
	}
	return &table[s]
}

// String is the stage's name in scripts, documents and traces.
func (s Stage) String() string { return s.Row().Name }

// ParseStage finds a stage by name.
func ParseStage(name string) (Stage, bool) {
	for _, r := range Stages() {
		if r.Name == name {
			return r.Stage, true
		}
	}
	return 0, false
}

// Allows tells whether v may be answered at the stage.
func (r *Row) Allows(v Verb) bool {
	if v == Pass {
		return true
	}
	for _, ok := range r.Verbs {
		if ok == v {
			return true
		}
	}
	return false
}

// AllowsEdit tells whether an edit of that kind is legal at the stage.
func (r *Row) AllowsEdit(k EditKind) bool {
	for _, ok := range r.Edits {
		if ok == k {
			return true
		}
	}
	return false
}

// WriteTable writes the table of stages as docs/stages.md shows it.
func WriteTable(w io.Writer) error {
	var b strings.Builder
	b.WriteString("| stage | scope | when | decisions | where nobody decides | a refusal without a code | a deferral without a code |\n|---|---|---|---|---|---|---|\n")
	for _, r := range Stages() {
		verbs := make([]string, 0, len(r.Verbs))
		for _, v := range r.Verbs {
			verbs = append(verbs, "`"+v.String()+"`")
		}
		reject, postpone := r.Reject.String(), r.Defer.String()
		if r.Observe {
			verbs, reject, postpone = []string{"observes only"}, "", ""
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %s | %s |\n", r.Name, r.Scope, r.When, strings.Join(verbs, " "), r.Default, reject, postpone)
	}
	b.WriteString("\n| stage | what it adds to the event | edits |\n|---|---|---|\n")
	for _, r := range Stages() {
		edits := make([]string, 0, len(r.Edits))
		for _, e := range r.Edits {
			edits = append(edits, e.String())
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", r.Name, r.Fields, strings.Join(edits, ", "))
	}
	_, err := io.WriteString(w, b.String())
	return err
}
