package lua

import (
	"bytes"
	"testing"

	"github.com/postern-mta/postern/core/message"
)

// A text is found wherever it stands in a body that is read in pieces, however long it is,
// and none that is not there.
func TestContainsAcrossPieces(t *testing.T) {
	type pieces struct{ message.Body } // whose bytes can't be had at once
	for _, n := range []int{1, 7, message.PieceSize/2 - 1, message.PieceSize/2 + 2, message.PieceSize} {
		text := append(bytes.Repeat([]byte("x"), n-1), 'y')
		for _, at := range []int{0, message.PieceSize - n, message.PieceSize - n/2, message.PieceSize - 1, message.PieceSize, 2*message.PieceSize - n/2, 3*message.PieceSize - n} {
			body := bytes.Repeat([]byte("."), 3*message.PieceSize)
			copy(body[at:], text)
			found, err := contains(t.Context(), pieces{message.Bytes(body)}, [][]byte{[]byte("absent"), text})
			if err != nil || !found {
				t.Errorf("%d bytes at %d: %v %v", n, at, found, err)
			}
			body[at+n-1] = '.'
			if found, err := contains(t.Context(), pieces{message.Bytes(body)}, [][]byte{text}); err != nil || found {
				t.Errorf("%d bytes that are not at %d: %v %v", n, at, found, err)
			}
		}
	}
}
