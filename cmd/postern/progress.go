package main

import (
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// progress shows on a terminal how far something is that may take longer than a
// second. It writes to the error stream, and nothing where that is no terminal.
type progress struct{ bar *progressbar.ProgressBar }

// newProgress begins with of steps ahead; -1: nobody knows how many.
func newProgress(w io.Writer, what string, of int) *progress {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return &progress{}
	}
	return &progress{progressbar.NewOptions(of,
		progressbar.OptionSetWriter(f), progressbar.OptionSetDescription(what), progressbar.OptionShowCount(),
		progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish(), progressbar.OptionSetWidth(30),
		progressbar.OptionSetPredictTime(true), progressbar.OptionSetRenderBlankState(false))}
}

// at tells that n steps are done.
func (p *progress) at(n int) {
	if p.bar != nil {
		_ = p.bar.Set(n) // its only error is a wrong count, which is no reason to stop
	}
}

// end takes the bar off the screen.
func (p *progress) end() {
	if p.bar != nil {
		_ = p.bar.Finish()
	}
}
