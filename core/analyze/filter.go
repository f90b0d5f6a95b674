package analyze

import "strings"

// Filter hands on what all that is set in it is true of.
type Filter struct {
	To        Sink
	Sender    string // with or without angle brackets
	Recipient string // channel.address, or the address alone; messages have none and pass no such filter
	QP        string
}

func (f *Filter) from(sender, qp string) bool {
	if f.Sender != "" && !strings.EqualFold(strings.Trim(sender, "<>"), strings.Trim(f.Sender, "<>")) {
		return false
	}
	return f.QP == "" || qp == f.QP
}

// Delivery implements Sink.
func (f *Filter) Delivery(d *Delivery) error {
	if !f.from(d.Sender, d.QP) {
		return nil
	}
	if f.Recipient != "" && !strings.EqualFold(d.Recipient, f.Recipient) {
		if _, address := cutChannel(d.Recipient); !strings.EqualFold(address, f.Recipient) {
			return nil
		}
	}
	return f.To.Delivery(d)
}

// Message implements Sink.
func (f *Filter) Message(m *Message) error {
	if f.Recipient != "" || !f.from(m.Sender, m.QP) {
		return nil
	}
	return f.To.Message(m)
}
