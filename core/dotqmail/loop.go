package dotqmail

import (
	"bufio"
	"errors"
	"io"
)

// Looping tells whether the header section of a message, with LF line ends, has the
// line: our own Delivered-To, so that the message was here before. Nothing else in a
// message can make it bounce, the body of a forwarded one least of all.
func Looping(message io.Reader, line string) (bool, error) {
	in := bufio.NewReaderSize(message, 8<<10)
	whole := true // what is read next begins a line
	for {
		part, err := in.ReadSlice('\n')
		if whole && err == nil && string(part) == line {
			return true, nil
		}
		if whole && err == nil && len(part) == 1 {
			return false, nil
		}
		switch {
		case errors.Is(err, io.EOF):
			return false, nil
		case err != nil && !errors.Is(err, bufio.ErrBufferFull):
			return false, err
		}
		whole = err == nil
	}
}
