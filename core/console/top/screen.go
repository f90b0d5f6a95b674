package top

import (
	"context"
	"os"

	"github.com/gdamore/tcell/v3"
	"github.com/gdamore/tcell/v3/color"
)

// Screen is a real terminal. Close gives it back as it was.
type Screen struct {
	s      tcell.Screen
	keys   chan string
	styles [Bad + 1]tcell.Style
	end    context.CancelFunc
	ended  chan struct{}
}

// OpenScreen takes over the terminal of this process.
func OpenScreen() (*Screen, error) {
	options := []tcell.TerminfoScreenOption{tcell.OptSanitizeContent(true)}
	if os.Getenv("NO_COLOR") != "" {
		options = append(options, tcell.OptColors(0))
	}
	s, err := tcell.NewScreen(options...)
	if err != nil {
		return nil, err
	}
	if err := s.Init(); err != nil {
		return nil, err
	}
	s.HideCursor()
	d := tcell.StyleDefault
	x := &Screen{s: s, keys: make(chan string, 16), ended: make(chan struct{}), styles: [...]tcell.Style{
		Plain: d, Dim: d.Dim(true), Bold: d.Bold(true), Bar: d.Reverse(true), Title: d.Bold(true), Chosen: d.Bold(true).Reverse(true),
		Heading: d.Underline(true), Good: d.Foreground(color.XTerm2), Warn: d.Foreground(color.XTerm3), Bad: d.Bold(true).Foreground(color.XTerm1),
	}}
	ctx, cancel := context.WithCancel(context.Background())
	x.end = cancel
	go x.listen(ctx)
	return x, nil
}

// Close implements io.Closer.
func (x *Screen) Close() error {
	x.end()
	<-x.ended
	x.s.Fini()
	return nil
}

// Size implements Terminal.
func (x *Screen) Size() (w, h int) { return x.s.Size() }

// Keys implements Terminal.
func (x *Screen) Keys() <-chan string { return x.keys }

// Draw implements Terminal.
func (x *Screen) Draw(f *Frame) {
	for y := range f.H {
		for i := range f.W {
			if text, style := f.At(i, y); text != "" {
				x.s.Put(i, y, text, x.styles[style])
			}
		}
	}
	x.s.Show()
}

// names are the keys that are no characters.
func names(k tcell.Key) string {
	switch k {
	case tcell.KeyUp:
		return KeyUp
	case tcell.KeyDown:
		return KeyDown
	case tcell.KeyLeft:
		return KeyLeft
	case tcell.KeyRight:
		return KeyRight
	case tcell.KeyPgUp:
		return KeyPageUp
	case tcell.KeyPgDn:
		return KeyPageDown
	case tcell.KeyHome:
		return KeyHome
	case tcell.KeyEnd:
		return KeyEnd
	case tcell.KeyTab:
		return KeyTab
	case tcell.KeyBacktab:
		return KeyBackTab
	case tcell.KeyEnter:
		return KeyEnter
	case tcell.KeyEscape:
		return KeyEscape
	case tcell.KeyBackspace:
		return KeyBackspace
	case tcell.KeyCtrlC:
		return KeyInterrupt
	}
	return ""
}

// listen turns the terminal's events into keys.
func (x *Screen) listen(ctx context.Context) {
	defer close(x.ended)
	defer close(x.keys)
	for {
		var e tcell.Event
		var there bool
		select {
		case <-ctx.Done():
			return
		case e, there = <-x.s.EventQ():
			if !there {
				return
			}
		}
		key, send := "", false
		switch e := e.(type) {
		case *tcell.EventResize:
			x.s.Sync()
			send = true
		case *tcell.EventKey:
			key = names(e.Key())
			switch {
			case e.Key() == tcell.KeyTab && e.Modifiers()&tcell.ModShift != 0:
				key = KeyBackTab
			case e.Key() == tcell.KeyRune && e.Modifiers()&(tcell.ModCtrl|tcell.ModAlt|tcell.ModMeta) == 0:
				key = e.Str()
			}
			send = key != ""
		}
		if !send {
			continue
		}
		select {
		case x.keys <- key:
		case <-ctx.Done():
			return
		}
	}
}
