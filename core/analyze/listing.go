package analyze

import (
	"bufio"
	"strconv"
)

// Listing is zsendmail: a line for each delivery and each message, as sendmail logs
// them.
type Listing struct {
	W   *bufio.Writer
	buf []byte
}

var listed = map[byte]string{Success: "Sent", Failure: "Failed", Deferral: "Deferred"}

// Delivery implements Sink.
func (l *Listing) Delivery(d *Delivery) error {
	b := append(append(d.Done.Append(l.buf[:0]), " qp "...), d.QP...)
	b = append(append(b, ": to="...), d.Recipient...)
	b = append(append(b, ", uid="...), d.UID...)
	b = strconv.AppendFloat(append(b, ", ddelay="...), d.Done.Since(d.Birth), 'f', 6, 64)
	b = strconv.AppendFloat(append(b, ", xdelay="...), d.Done.Since(d.Start), 'f', 6, 64)
	b = append(append(b, ", stat="...), listed[d.Result]...)
	b = append(append(append(b, " ("...), d.Reason...), ")\n"...)
	l.buf = b
	_, err := l.W.Write(b)
	return err
}

// Message implements Sink.
func (l *Listing) Message(m *Message) error {
	b := append(append(m.Done.Append(l.buf[:0]), " qp "...), m.QP...)
	b = append(append(b, ": from="...), m.Sender...)
	b = append(append(b, ", uid="...), m.UID...)
	b = strconv.AppendInt(append(b, ", size="...), m.Bytes, 10)
	b = strconv.AppendInt(append(b, ", nrcpts="...), m.Successes+m.Failures, 10)
	b = strconv.AppendInt(append(b, ", deferrals="...), m.Deferrals, 10)
	b = strconv.AppendFloat(append(b, ", qtime="...), m.Done.Since(m.Birth), 'f', 6, 64)
	l.buf = append(b, '\n')
	_, err := l.W.Write(l.buf)
	return err
}
