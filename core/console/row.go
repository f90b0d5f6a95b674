package console

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/postern-mta/postern/core/queue"
	"github.com/postern-mta/postern/core/record"
)

// Row is one queued message: a line of `postern queue list --json`.
type Row struct {
	ID         string         `json:"id"`
	Sender     string         `json:"sender"` // "" is the null path, "#@[]" a double bounce
	Size       int64          `json:"size"`
	Arrived    time.Time      `json:"arrived"`
	Place      string         `json:"place"` // active, held, quarantined
	Reason     string         `json:"reason,omitempty"`
	Recipients []RowRecipient `json:"recipients"`
}

// RowRecipient is one recipient of a Row.
type RowRecipient struct {
	Address   string    `json:"address"`
	State     string    `json:"state"` // ready, deferred, delivered, failed
	Attempts  int       `json:"attempts"`
	Next      time.Time `json:"next,omitzero"` // left out where nothing is to be tried
	LastReply string    `json:"last_reply"`
	Held      bool      `json:"held,omitempty"`
	Tried     time.Time `json:"tried,omitzero"`
	Peer      string    `json:"peer,omitempty"`
	Route     string    `json:"route,omitempty"`
	Original  string    `json:"original,omitempty"` // DSN ORCPT, or what a policy replaced
	Notify    string    `json:"notify,omitempty"`   // DSN NOTIFY
	Unicode   string    `json:"unicode,omitempty"`  // the domain with its U-labels
	Relayed   bool      `json:"relayed,omitempty"`  // delivered to a host that tells no sender of success
	Owed      bool      `json:"owed,omitempty"`     // final, and the sender is still to be told
}

// Detail is one message with all that the queue knows: `postern queue show --json`.
type Detail struct {
	Row
	EightBit bool            `json:"eight_bit,omitempty"`
	Binary   bool            `json:"binary,omitempty"`
	SMTPUTF8 bool            `json:"smtputf8,omitempty"`
	Unicode  string          `json:"unicode,omitempty"` // the sender's domain with its U-labels
	Ret      string          `json:"ret,omitempty"`
	EnvID    string          `json:"envid,omitempty"`
	Notified bool            `json:"notified,omitempty"` // the delay notice was sent
	Signed   *DetailSpan     `json:"signed,omitempty"`   // our own signatures in the message; nil: none
	Facts    json.RawMessage `json:"facts,omitempty"`    // hooks.Facts: the client, and what policies left
}

// DetailSpan is a part of the stored message: bytes From up to To.
type DetailSpan struct {
	From int64 `json:"from"`
	To   int64 `json:"to"`
}

// RowOf is the message as a list shows it.
func RowOf(m *queue.Message) Row {
	row := Row{
		ID: m.ID, Sender: m.Sender.String(), Size: m.Size, Arrived: m.Arrived, Place: m.Place.String(), Reason: m.Reason,
		Recipients: make([]RowRecipient, 0, len(m.Recipients)),
	}
	if m.Double {
		row.Sender = "#@[]"
	}
	for i := range m.Recipients {
		r := &m.Recipients[i]
		one := RowRecipient{
			Address: r.Address.String(), State: r.State.String(), Attempts: r.Attempts, Held: r.Held, Tried: r.Tried, Peer: r.Peer, Route: r.Route,
			Original: r.Original, Notify: r.Notify, Unicode: r.Unicode, Relayed: r.Relayed, Owed: r.State.Final() && !r.Next.IsZero(),
		}
		if !r.Last.IsZero() {
			one.LastReply = r.Last.String()
		}
		if !r.State.Final() && !r.Held && m.Place == queue.Active {
			one.Next = r.Next
		}
		row.Recipients = append(row.Recipients, one)
	}
	return row
}

// DetailOf is the message with all that the queue knows.
func DetailOf(m *queue.Message) Detail {
	d := Detail{
		Row: RowOf(m), EightBit: m.EightBit, Binary: m.Binary, SMTPUTF8: m.SMTPUTF8, Unicode: m.Unicode,
		Ret: m.Ret, EnvID: m.EnvID, Notified: m.Notified,
	}
	if !m.Signed.Empty() {
		d.Signed = &DetailSpan{m.Signed.From, m.Signed.To}
	}
	if json.Valid(m.Facts) {
		d.Facts = m.Facts
	}
	return d
}

// Print writes the message as a list for people shows it; what came from outside
// is escaped.
func (r Row) Print(w io.Writer, now time.Time) {
	place := ""
	if r.Place != queue.Active.String() {
		place = "  " + r.Place
	}
	if r.Reason != "" {
		place += " (" + record.Clean(r.Reason) + ")"
	}
	fmt.Fprintf(w, "%s  %s  %d bytes  %s old%s\n", record.Clean(r.ID), path(r.Sender), r.Size, Age(r.Arrived, now), place)
	for _, one := range r.Recipients {
		fmt.Fprintf(w, "    %s  %s", path(one.Address), one.State)
		if one.Attempts > 0 {
			fmt.Fprintf(w, ", %d attempts", one.Attempts)
		}
		switch {
		case one.Held:
			fmt.Fprint(w, ", held")
		case one.Next.IsZero():
		case one.Next.After(now):
			fmt.Fprintf(w, ", next in %s", span(one.Next.Sub(now)))
		default:
			fmt.Fprint(w, ", due now")
		}
		if one.LastReply != "" {
			fmt.Fprintf(w, "\n        %s", record.Clean(one.LastReply))
			if one.Peer != "" {
				fmt.Fprintf(w, "  [%s]", record.Clean(one.Peer))
			}
		}
		fmt.Fprintln(w)
	}
}

// Print writes everything for people.
func (d Detail) Print(w io.Writer, now time.Time) {
	d.Row.Print(w, now)
	fmt.Fprintf(w, "    arrived %s\n", d.Arrived.Local().Format(time.RFC3339))
	for _, one := range [...][2]string{{"RET", d.Ret}, {"ENVID", d.EnvID}, {"facts", string(d.Facts)}} {
		if one[1] != "" {
			fmt.Fprintf(w, "    %s %s\n", one[0], record.Clean(one[1]))
		}
	}
	if d.Notified {
		fmt.Fprintln(w, "    the sender was told of the delay")
	}
}

func path(address string) string { return "<" + record.Clean(address) + ">" }
