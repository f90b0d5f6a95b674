package pebble

import (
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/postern-mta/postern/core/queue"
	"github.com/postern-mta/postern/core/queue/journal"
)

// OnSmall is On with a journal whose segments are soon full, and soon used again.
func OnSmall(files vfs.FS) queue.OpenEngine {
	return with(files, journal.Options{FirstSegment: 64 << 10, Segment: 128 << 10, Limit: 256 << 10})
}
