package queue

import (
	"fmt"
	"sync/atomic"
)

// roomStep is how many bytes are written between two looks at the disk.
const roomStep = 1 << 20

// room keeps the disk from filling up, which would end the engine's handle.
type room struct{ left atomic.Int64 }

// checkRoom is ErrFull where n more bytes would leave less than the reserve. It
// looks as long as space is short, so mail is taken again as soon as there is
// some.
func (q *Queue) checkRoom(n int64) error {
	if q.o.Reserve < 0 || q.room.left.Add(-n) >= 0 {
		return nil
	}
	free, err := q.disk.Free()
	if err != nil {
		return err
	}
	if free-n < q.o.Reserve {
		q.room.left.Store(0)
		return fmt.Errorf("%w: %d bytes are free", ErrFull, free)
	}
	q.room.left.Store(min(roomStep, (free-n-q.o.Reserve)/2))
	return nil
}
