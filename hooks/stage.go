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
	Mail
	Rcpt
	Data
	Headers
	Message
	Queue
	Queued
	Deny
	Disconnect
	Route
	Attempt
	Delivered
	Deferred
	Bounced
	stageEnd
)

// LaterStages are names of the design that this version has not got yet; a
// loader that meets one says so instead of calling it unknown.
var LaterStages = [...]string{"auth", "command", "dsn", "tick", "load", "unload"}

// Scope is what a stage is about.
type Scope uint8

// The scopes.
const (
	OfConnection Scope = iota
	OfTransaction
	OfRecipient
	OfMessage
	OfDelivery
)

var scopeNames = [...]string{"connection", "transaction", "recipient", "message", "delivery"}

func (s Scope) String() string { return scopeNames[s] }

// Row is one line of the table of stages.
type Row struct {
	Stage   Stage
	Name    string
	Scope   Scope
	When    string        // when exactly it runs
	Verbs   []Verb        // what a handler may answer; Pass is always legal
	Observe bool          // the answer is ignored; runs beside the mail path
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
	later1   = message.Reply{Code: 451, Enhanced: [3]int{4, 7, 1}, Text: "Deferred by policy, please try again later"}

	connEdits = []EditKind{SetConnNote, AddScore, AddTag, SetResult, SkipPolicy}
	txEdits   = append([]EditKind{SetNote, AddHeader, AppendHeader, ReplaceHeader, RemoveHeader, AddRecipient, RemoveRecipient, ReplaceRecipient, SetRoute, SetPriority}, connEdits...)
	tellEdits = []EditKind{SetNote, SetConnNote}
	sendEdits = []EditKind{SetNote, AddTag, SetRoute}
	intake    = []Verb{Accept, Reject, Defer, Discard, Drop}
	late      = []Verb{Accept, Reject, Defer, Discard, Quarantine, Drop}
)

// table is the single source of what each stage allows.
var table = [stageEnd]Row{
	Connect:    {Connect, "connect", OfConnection, "TCP accepted, before the greeting", []Verb{Accept, Reject, Defer, Drop}, false, "accept", refused4, later1, "conn: id, ip, port, local_ip, local_port, host, listener, protocol, relaying", connEdits},
	Helo:       {Helo, "helo", OfConnection, "HELO or EHLO, before its reply", []Verb{Accept, Reject, Defer, Drop}, false, "accept", refused, later, "conn.helo", connEdits},
	TLS:        {TLS, "tls", OfConnection, "after a TLS handshake", []Verb{Accept, Reject, Defer, Drop}, false, "accept", refused, later, "conn.tls", connEdits},
	Mail:       {Mail, "mail", OfTransaction, "MAIL FROM with its parameters", intake, false, "accept", refused, later, "tx: id, sender, params", txEdits},
	Rcpt:       {Rcpt, "rcpt", OfRecipient, "each RCPT TO", intake, false, "the recipient rule", refused, later, "rcpt", txEdits},
	Data:       {Data, "data", OfTransaction, "DATA, before 354", intake, false, "accept", refused4, later1, "tx.recipients", txEdits},
	Headers:    {Headers, "headers", OfTransaction, "header section complete; a refusal is sent after the end of data", late, false, "accept", refused4, later1, "tx.headers", txEdits},
	Message:    {Message, "message", OfTransaction, "whole message received, before the final reply", late, false, "accept", refused4, later1, "tx: body, size", txEdits},
	Queue:      {Queue, "queue", OfTransaction, "about to be made durable", append([]Verb{Hold}, late...), false, "accept", refused4, later1, "tx.total is final, tx.received", append([]EditKind{SetReceived}, txEdits...)},
	Queued:     {Queued, "queued", OfMessage, "durable, 250 sent", nil, true, "nothing", refused4, later1, "tx", tellEdits},
	Deny:       {Deny, "deny", OfConnection, "any negative reply is about to be sent", []Verb{Accept, Reject, Defer, Drop}, false, "the refusal stays", refused, later, "refusal: stage, policy, code, enhanced, text", connEdits},
	Disconnect: {Disconnect, "disconnect", OfConnection, "connection over", nil, true, "nothing", refused, later, "conn.totals", nil},
	Route:      {Route, "route", OfRecipient, "before the first attempt and after each deferral", []Verb{Accept, Reject, Defer, Hold}, false, "the routes of the configuration", refused, later, "rcpt, plan: next_hop, tls", sendEdits},
	Attempt:    {Attempt, "attempt", OfDelivery, "about to open or reuse a connection to a next hop", []Verb{Accept, Reject, Defer, Hold}, false, "accept", refused, later, "try: attempt, next_hop, age", sendEdits},
	Delivered:  {Delivered, "delivered", OfRecipient, "a recipient's next hop took the message", nil, true, "nothing", refused, later, "try: attempt, next_hop, peer, reply, age", tellEdits},
	Deferred:   {Deferred, "deferred", OfRecipient, "an attempt failed for now (may override: retry at, give up, hold, reroute)", []Verb{Accept, Reject, Defer, Hold}, false, "the retry plan", refused, later, "try: attempt, next_hop, peer, reply, age", sendEdits},
	Bounced:    {Bounced, "bounced", OfRecipient, "an attempt failed for good (may override: retry at, hold, reroute)", []Verb{Accept, Reject, Defer, Hold}, false, "a bounce", refused, later, "try: attempt, next_hop, peer, reply, age", sendEdits},
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
