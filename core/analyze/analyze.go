// Package analyze reads what became of mail, from qmail's logs, from Postern's own
// or from its flight recorder, and adds it up: the reports of qmailanalog, and
// charts.
//
//   - Reader (reader.go) takes lines of any of the formats, told apart line by line:
//     qmail-send's behind a time stamp (qmail.go), our text and JSON log (own.go),
//     and the lines of matchup (mdline.go). Matcher (match.go) pairs the starts and
//     ends that it finds into a Delivery or a Message for a Sink. What is not over
//     yet is the state that the next chunk of a log begins with (state.go).
//   - The reports (overall.go, distribution.go, groups.go, listing.go) are Sinks, and
//     so are filters (filter.go); each gives a Table. Series (series.go) and the
//     charts (chart.go, page.go) show them over time.
//
// Everything is read as a stream and memory is bounded: MaxOpen messages and
// deliveries that are not over, MaxNames names in a report, MaxDelays delays kept one
// by one. What goes beyond is counted, and said.
package analyze

// Bounds of what is kept in memory.
const (
	MaxOpen   = 200_000   // messages that are not over, and as many deliveries
	MaxNames  = 50_000    // names of one report
	MaxDelays = 1_000_000 // delays that are kept one by one
	maxLine   = 64 << 10  // bytes of a line
)

// Results of a Delivery.
const (
	Success  byte = 'k'
	Failure  byte = 'd'
	Deferral byte = 'z'
)

// Delivery is one attempt for one recipient: a d line of matchup.
type Delivery struct {
	Result             byte // Success, Failure or Deferral
	Birth, Start, Done Stamp
	Bytes              int64
	Sender             string // with angle brackets; "?" where nobody knows
	Recipient          string // with its channel in front: local.joe@example.net
	QP                 string // the long-term queue id, or Postern's id; "?" where nobody knows
	UID                string // who handed it over: an account's number, or a name
	Reason             string // with _ for blanks
}

// Message is one that left the queue: an m line of matchup.
type Message struct {
	Birth, Done                    Stamp
	Bytes                          int64
	Successes, Failures, Deferrals int64
	Sender, QP, UID                string
}

// Sink takes what is found. What it is given is its own only until it returns.
type Sink interface {
	Delivery(d *Delivery) error
	Message(m *Message) error
}

// Sinks is several that hear the same.
type Sinks []Sink

// Delivery implements Sink.
func (s Sinks) Delivery(d *Delivery) error {
	for _, one := range s {
		if err := one.Delivery(d); err != nil {
			return err
		}
	}
	return nil
}

// Message implements Sink.
func (s Sinks) Message(m *Message) error {
	for _, one := range s {
		if err := one.Message(m); err != nil {
			return err
		}
	}
	return nil
}
