package proto

import (
	"io"

	"github.com/postern-mta/postern/core/message"
)

// Prefix reads the first n bytes of a message's body: of what follows the empty
// line that ends its header section. cut tells that the body is longer. A header
// section of over MaxHeader bytes leaves no prefix.
func Prefix(b message.Body, n int64) (prefix []byte, cut bool, err error) {
	size := b.Size()
	n = min(n, MaxPrefix)
	for want := n + 16<<10; ; want *= 4 {
		want = min(want, MaxHeader+n, size)
		buf := make([]byte, want)
		if got, err := b.ReadAt(buf, 0); got < len(buf) {
			return nil, false, io.ErrUnexpectedEOF
		} else if err != nil && err != io.EOF {
			return nil, false, err
		}
		from, ok := message.HeaderLen(buf)
		from += len("\r\n")
		if ok && (int64(from)+n <= want || want == size) {
			end := min(int64(from)+n, want)
			return buf[from:end], end < size, nil
		}
		if want == size || want == MaxHeader+n {
			if ok {
				return buf[from:], want < size, nil
			}
			return nil, want < size, nil
		}
	}
}
