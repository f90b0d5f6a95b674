package pebble

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/postern-mta/postern/core/disk"
)

// park ends the use of this goroutine, with whatever locks it holds in Pebble.
func park() { select {} }

// logger is what Pebble writes to. Fatalf must not return.
type logger struct {
	guard *disk.Guard
	log   *slog.Logger
}

func (l logger) Infof(format string, args ...any) {
	if l.log.Enabled(context.Background(), slog.LevelDebug) {
		l.log.Debug("queue: store: " + fmt.Sprintf(format, args...))
	}
}

func (l logger) Errorf(format string, args ...any) {
	l.log.Error("queue: store: " + fmt.Sprintf(format, args...))
}

func (l logger) Fatalf(format string, args ...any) {
	l.guard.Fail(fmt.Errorf(format, args...))
	park()
}
