//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// relaySample is what one peer did with one round of messages.
type relaySample struct {
	accept, drain float64 // messages a second
	cpu           float64 // ms a message, of all its processes
	memory        float64 // MB, its proportional share at the most
	latency       float64 // ms from MAIL to 250 at the median
}

// waitAtMost is how long a round may take.
const waitAtMost = 10 * time.Minute

func runRelay(ctx context.Context, args []string) error {
	b := &bench{}
	f := b.flags("relay")
	names := f.String("peers", "postern,postfix,postern-lua,postern-nosync", "who is measured, in turns; ratios are those to the first: postern, postfix, haraka, postern-lua, postern-nosync")
	f.IntVar(&b.messages, "n", 5000, "messages of a round")
	f.IntVar(&b.sessions, "sessions", 50, "sessions at once")
	f.IntVar(&b.rounds, "rounds", 3, "rounds")
	only := f.String("only", "", "one of `once`, kept, lone: a connection for each message, kept connections, one session in sequence; empty: all")
	_ = f.Parse(args) // it exits
	var list []*peer
	for _, name := range strings.Split(*names, ",") {
		p, err := peerNamed(name)
		if err != nil {
			return err
		}
		list = append(list, p)
	}
	shut, err := b.open()
	if err != nil {
		return err
	}
	defer shut()
	r := b.report("relay", fmt.Sprintf("%d messages of %d octets in a round, %d sessions, %d rounds in turns, a tenth more before each round that is not counted.", b.messages, b.size, b.sessions, b.rounds))
	for _, mode := range []struct {
		name, title string
		kept        bool
	}{{"once", "One connection for each message", false}, {"kept", "Kept connections", true}} {
		if *only != "" && *only != mode.name {
			continue
		}
		rows, err := b.relayRounds(ctx, list, mode.kept)
		if err != nil {
			return err
		}
		r.Sections = append(r.Sections, relaySection(mode.title, list, rows))
	}
	if *only == "" || *only == "lone" {
		s, err := b.lone(ctx)
		if err != nil {
			return err
		}
		r.Sections = append(r.Sections, s)
	}
	r.relayTargets()
	return b.tell(r)
}

// relayRounds measures the peers in turns, forwards and backwards.
func (b *bench) relayRounds(ctx context.Context, list []*peer, kept bool) (map[string][]relaySample, error) {
	rows := map[string][]relaySample{}
	for i := range b.rounds {
		turn := slices.Clone(list)
		if i%2 == 1 {
			slices.Reverse(turn)
		}
		for _, p := range turn {
			one, err := b.relayOnce(ctx, p, kept)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", p.name, err)
			}
			rows[p.name] = append(rows[p.name], one)
			say("  %s, kept %t: accepts %.0f/s, drains %.0f/s, %.3f ms CPU, %.0f MB", p.name, kept, one.accept, one.drain, one.cpu, one.memory)
		}
	}
	return rows, nil
}

func (b *bench) relayOnce(ctx context.Context, p *peer, kept bool) (one relaySample, err error) {
	hop, err := startAwaySink(ctx)
	if err != nil {
		return one, err
	}
	defer hop.stop()
	s, err := b.start(ctx, p, hop.addr, "")
	if err != nil {
		return one, err
	}
	defer s.away()
	warm := b.messages / 10
	send := func(n int) (*load, time.Duration, error) {
		l := &load{to: s.addr, sessions: b.sessions, messages: n, kept: kept, body: mailOf(b.size)}
		took, err := l.run(ctx)
		return l, took, err
	}
	if warm > 0 {
		if _, _, err := send(warm); err != nil {
			return one, err
		}
		if err := hop.wait(ctx, warm, waitAtMost); err != nil {
			return one, err
		}
	}
	unix.Sync() // what the one before left to write is not for this one
	return s.measure(ctx, hop, b.messages, warm, func(n int, _ func() error) (*load, time.Duration, error) { return send(n) })
}

// measure sends n messages through the server, behind those that were counted before,
// and tells what that took: from the beginning, or from what send calls for its start.
func (s *server) measure(ctx context.Context, hop *awaySink, n, before int, send func(n int, start func() error) (*load, time.Duration, error)) (one relaySample, err error) {
	most := s.g.watchMemory(500 * time.Millisecond)
	var used time.Duration
	var began time.Time
	start := func() (err error) {
		used, err = s.g.cpu()
		began = time.Now()
		return err
	}
	err = start()
	var l *load
	var took time.Duration
	if err == nil {
		l, took, err = send(n, start)
	}
	if err == nil {
		err = hop.wait(ctx, before+n, waitAtMost)
	}
	drained := time.Since(began)
	memory := most()
	if err != nil {
		return one, err
	}
	after, err := s.g.cpu()
	all := float64(n)
	return relaySample{
		accept: all / took.Seconds(), drain: all / drained.Seconds(), cpu: (after - used).Seconds() * 1e3 / all,
		memory: float64(memory) / (1 << 20), latency: quantile(l.took, 0.5),
	}, err
}

// figures of a sample, in the order of the table.
var relayFigures = []struct {
	name, unit string
	of         func(relaySample) float64
}{
	{"accepted", "/s", func(s relaySample) float64 { return s.accept }},
	{"drained", "/s", func(s relaySample) float64 { return s.drain }},
	{"CPU a message", "ms", func(s relaySample) float64 { return s.cpu }},
	{"memory", "MB", func(s relaySample) float64 { return s.memory }},
	{"accepted after", "ms", func(s relaySample) float64 { return s.latency }},
}

func relaySection(title string, list []*peer, rows map[string][]relaySample) section {
	s := section{Title: title}
	for _, p := range list {
		r := row{Name: p.about}
		for _, f := range relayFigures {
			var values []float64
			for _, one := range rows[p.name] {
				values = append(values, f.of(one))
			}
			r.Figures = append(r.Figures, figure{f.name, f.unit, values})
		}
		s.Rows = append(s.Rows, r)
	}
	for i := 1; i < len(s.Rows); i++ {
		a, b := s.Rows[0], s.Rows[i]
		if list[i].more { // the plain one is what is aimed at
			a, b = b, a
		}
		r := row{Name: a.Name + " / " + b.Name}
		for k, f := range relayFigures {
			r.Figures = append(r.Figures, figure{f.name, "×", ratios(a.Figures[k].Values, b.Figures[k].Values)})
		}
		s.Ratios = append(s.Ratios, r)
	}
	return s
}

// ratios of the values of the same round.
func ratios(a, b []float64) (list []float64) {
	for i := range min(len(a), len(b)) {
		list = append(list, a[i]/b[i])
	}
	return list
}

// relayTargets compares the medians with what is aimed at.
func (r *report) relayTargets() {
	const once, kept, lone = "One connection for each message", "Kept connections", "One session in sequence"
	const postfix, lua, nosync = "Postern / Postfix, its defaults", "Postern with ten Lua policies / Postern", "Postern / Postern built without its syncs"
	add := func(what, section, row, figure string, limit float64, atLeast bool) {
		if m, found := r.median(section, row, figure); found {
			r.Targets = append(r.Targets, target{what, "", limit, atLeast, m})
		}
	}
	for _, s := range []struct {
		title, name string
		times       float64
	}{{once, "a connection each", 6}, {kept, "kept connections", 10}} {
		add(s.name+": CPU a message, of Postfix's", s.title, postfix, "CPU a message", 0.1, false)
		add(s.name+": accepted, of Postfix's", s.title, postfix, "accepted", s.times, true)
		add(s.name+": drained, of Postfix's", s.title, postfix, "drained", s.times, true)
		add(s.name+": drained, of that without syncs", s.title, nosync, "drained", 0.8, true)
		add(s.name+": drained with ten Lua policies, of that with none", s.title, lua, "drained", 0.8, true)
	}
	add("one session: accepted after, of append + dialogue", lone, "Postern / (append + dialogue)", "median", 1.4, false)
}

// lone measures one session that sends one message after the other, beside what
// nobody could do without: a synced append of the message, and the same dialogue
// with a server that does nothing.
func (b *bench) lone(ctx context.Context) (section, error) {
	each, turns := max(min(100, b.messages/10), 5), 5
	hop, err := startAwaySink(ctx)
	if err != nil {
		return section{}, err
	}
	defer hop.stop()
	nothing, err := startAwaySink(ctx)
	if err != nil {
		return section{}, err
	}
	defer nothing.stop()
	p, err := peerNamed("postern")
	if err != nil {
		return section{}, err
	}
	relaying, err := b.start(ctx, p, hop.addr, "")
	if err != nil {
		return section{}, err
	}
	defer relaying.away()
	keeping, err := b.start(ctx, &peer{name: "keeping", about: p.about, prepare: posternWith("", "keep")}, hop.addr, "")
	if err != nil {
		return section{}, err
	}
	defer keeping.away()
	file, err := os.OpenFile(filepath.Join(b.dir, "appended"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return section{}, err
	}
	defer file.Close()
	talk := func(at *server, to *awaySink) func() ([]time.Duration, error) {
		return func() ([]time.Duration, error) {
			l := &load{sessions: 1, messages: each, kept: true, body: mailOf(b.size)}
			if l.to = to.addr; at != nil {
				l.to = at.addr
			}
			_, err := l.run(ctx)
			return l.took, err
		}
	}
	kinds := []struct {
		name string
		do   func() ([]time.Duration, error)
	}{
		{"synced append", func() ([]time.Duration, error) { return appendSynced(file, b.size, each) }},
		{"dialogue with a server that does nothing", talk(nil, nothing)},
		{"Postern", talk(relaying, hop)},
		{"Postern, nothing relayed meanwhile", talk(keeping, hop)},
	}
	medians := make([][]float64, len(kinds))
	for i := range turns * max(b.rounds, 1) {
		for k, kind := range kinds {
			took, err := kind.do()
			if err != nil {
				return section{}, fmt.Errorf("%s: %w", kind.name, err)
			}
			if i > 0 { // the first is for warming up
				medians[k] = append(medians[k], quantile(took, 0.5))
			}
		}
	}
	s := section{Title: "One session in sequence", Note: fmt.Sprintf("Medians of %d messages each, %d times in turns, on a kept connection.", each, len(medians[0]))}
	for k, kind := range kinds {
		s.Rows = append(s.Rows, row{kind.name, []figure{{"median", "ms", medians[k]}}})
	}
	var floor []float64
	for i := range medians[0] {
		floor = append(floor, medians[0][i]+medians[1][i])
	}
	s.Ratios = []row{
		{"Postern / (append + dialogue)", []figure{{"median", "×", ratios(medians[2], floor)}}},
		{"the same, nothing relayed meanwhile", []figure{{"median", "×", ratios(medians[3], floor)}}},
	}
	return s, nil
}

// appendSynced writes n times so many octets to the end of a file, each time waiting
// for the disk.
func appendSynced(f *os.File, size, n int) (list []time.Duration, err error) {
	body := mailOf(size)[:size]
	for range n {
		start := time.Now()
		if _, err := f.Write(body); err != nil {
			return nil, err
		}
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			return nil, err
		}
		list = append(list, time.Since(start))
	}
	return list, nil
}
