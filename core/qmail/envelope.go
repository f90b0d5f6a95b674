package qmail

import (
	"bufio"
	"errors"
	"io"
)

// Bounds of an envelope.
const (
	// maxAddress is the longest address, in bytes: one more than qmail-queue says, and
	// as many as it takes.
	maxAddress = 1002
	// MaxRecipients is how many there may be.
	MaxRecipients = 100_000
)

// ErrManyRecipients says that there are more than MaxRecipients.
var ErrManyRecipients = errors.New("the message has more than 100000 recipients")

// ReadEnvelope reads an envelope: F, the sender and a NUL, then T, a recipient and a
// NUL for each one, then a NUL. each is called for every address, of the sender first;
// what it is given is good until it returns. Its error ends the reading.
//
// r's buffer is bufio's usual one, or larger. Another error is a Status, as the queue program is to end: ReadFailed where the
// envelope ends early, by which its writer takes the message back, BadEnvelope,
// AddressTooLong; or ErrManyRecipients.
func ReadEnvelope(r *bufio.Reader, each func(letter byte, address []byte) error) error {
	letter := byte('F')
	for n := 0; ; n++ {
		c, err := r.ReadByte()
		switch {
		case err != nil:
			return ReadFailed
		case c == 0 && n > 0:
			return nil
		case c != letter:
			return BadEnvelope
		case n > MaxRecipients:
			return ErrManyRecipients
		}
		address, err := readAddress(r)
		if err != nil {
			return err
		}
		if err := each(letter, address); err != nil {
			return err
		}
		letter = 'T'
	}
}

// readAddress reads up to a NUL. r's buffer holds more than an address.
func readAddress(r *bufio.Reader) ([]byte, error) {
	part, err := r.ReadSlice(0)
	switch {
	case err == nil && len(part) <= maxAddress+1:
		return part[:len(part)-1], nil
	case len(part) > maxAddress:
		return nil, AddressTooLong
	}
	return nil, ReadFailed
}

// WriteEnvelope writes an envelope.
func WriteEnvelope(w io.Writer, sender string, recipients []string) error {
	b := bufio.NewWriter(w)
	write := func(letter byte, address string) {
		// The error of a bufio.Writer stays, and Flush tells it.
		_ = b.WriteByte(letter)
		_, _ = b.WriteString(address)
		_ = b.WriteByte(0)
	}
	write('F', sender)
	for _, one := range recipients {
		write('T', one)
	}
	_ = b.WriteByte(0)
	return b.Flush()
}
