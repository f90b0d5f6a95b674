package analyze

import (
	"bufio"
	"io"
	"strconv"
)

// LoadState reads what WriteState wrote, or the state that qmailanalog's matchup
// leaves on descriptor 5, before the next chunk of a log. From then on a last line
// without its end is kept for the state.
func (r *Reader) LoadState(in io.Reader) error {
	before, progress := r.counts, r.Progress
	r.carry, r.Progress = true, nil
	err := r.Read(in)
	r.counts, r.Progress = before, progress
	return err
}

// WriteState writes what is not over, as qmailanalog's matchup does: the lines info
// and extra of each message, starting of each delivery, and a line without its end.
func (r *Reader) WriteState(out io.Writer) error {
	w := bufio.NewWriter(out)
	var b []byte
	r.match.messages.all(func(id string, o *open) bool {
		b = append(append(append(o.birth.Append(b[:0]), " info msg "...), id...), ": bytes "...)
		b = append(append(strconv.AppendInt(b, o.bytes, 10), " from "...), o.sender...)
		b = append(append(b, " qp "...), o.qp...)
		b = append(append(append(b, " uid "...), o.uid...), '\n')
		b = append(append(append(o.birth.Append(b), " extra "...), id...), ' ')
		b = append(strconv.AppendInt(b, o.k, 10), ' ')
		b = append(strconv.AppendInt(b, o.z, 10), ' ')
		b = append(strconv.AppendInt(b, o.d, 10), '\n')
		_, err := w.Write(b)
		return err == nil
	})
	r.match.deliveries.all(func(n string, s *started) bool {
		channel, to := cutChannel(s.to)
		b = append(append(append(s.at.Append(b[:0]), " starting delivery "...), n...), ": msg "...)
		b = append(append(append(b, s.message...), " to "...), channel...)
		b = append(append(append(b, ' '), to...), '\n')
		_, err := w.Write(b)
		return err == nil
	})
	_, _ = w.Write(r.rest) // Flush tells what failed
	return w.Flush()
}

// cutChannel parts local.joe@example.net.
func cutChannel(s string) (channel, to string) {
	for i := range len(s) {
		if s[i] == '.' {
			return s[:i], s[i+1:]
		}
	}
	return "", s
}
