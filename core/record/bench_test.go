package record

import (
	"fmt"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
)

// BenchmarkMessage is what recording costs a message with ten stage runs: the
// mail path's part and, on other cores, the writer's.
func BenchmarkMessage(b *testing.B) {
	r := open1(b, Options{})
	s := newSession("0SESSION0000001")
	r.Connected(s)
	benchMessages(b, r, s)
	b.StopTimer()
	dropped := 0.0
	if _, err := fmt.Sscanf(after(scrape(r), "\npostern_recorder_dropped_total "), "%g", &dropped); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(dropped/float64(b.N), "dropped/op")
}

// BenchmarkMailPath is the mail path's part alone: of a closed recorder nothing
// reaches the writer.
func BenchmarkMailPath(b *testing.B) {
	r, err := Open(filepath.Join(b.TempDir(), "record"), Options{})
	if err != nil {
		b.Fatal(err)
	}
	s := newSession("0SESSION0000001")
	if err := r.Close(); err != nil {
		b.Fatal(err)
	}
	r.Connected(s)
	benchMessages(b, r, s)
}

// BenchmarkWriter is the writer's part alone: encoding and storing.
func BenchmarkWriter(b *testing.B) {
	r := open1(b, Options{})
	s := newSession("0SESSION0000001")
	var runs []hooks.StageRun
	for i := range 10 {
		runs = append(runs, at(hooks.Mail+hooks.Stage(i%5), i, hooks.HandlerRun{Policy: fmt.Sprintf("policy%d", i), Duration: time.Millisecond}))
	}
	var p page
	items := make([]entry, 64)
	b.ReportAllocs()
	defer reportCPU(b, cpuTime())
	for n := 0; b.Loop(); n++ {
		items[n%64] = &draft{
			id: message.NewID(noon.Add(time.Duration(n))), session: s.ID, started: noon, ended: noon, facts: factsOf(s), sender: message.Address{Local: "a", Domain: "a.example"},
			recipients: []message.Address{{Local: fmt.Sprint("u", n), Domain: "b.example"}}, runs: runs, subject: "the usual thing", reply: message.NewReply(250, "2.0.0", "Ok"),
		}
		if n%64 == 63 {
			r.writeAll(&p, items)
		}
	}
}

func benchMessages(b *testing.B, r *Recorder, s *hooks.Session) {
	reply := message.NewReply(250, "2.0.0", "Ok: queued as 0MESSAGE0000001")
	runs := make([]hooks.HandlerRun, 10)
	for i := range runs {
		runs[i] = hooks.HandlerRun{Policy: fmt.Sprintf("policy%d", i), Duration: time.Millisecond}
	}
	to := []*hooks.Recipient{{Address: address("b@b.example")}}
	b.ReportAllocs()
	defer reportCPU(b, cpuTime())
	for b.Loop() {
		tx := hooks.NewTransaction(s, message.NewID(time.Now()))
		tx.Sender, tx.Recipients = message.Address{Local: "a", Domain: "a.example"}, to
		for i := range runs {
			r.Stage(tx, hooks.StageRun{Stage: hooks.Mail + hooks.Stage(i%5), Time: noon, Handlers: runs[i : i+1]})
		}
		r.Verdict(tx, Queued, reply, "")
	}
}

// cpuTime is what the process used so far: other than the clock, it says the
// same on a busy machine.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func reportCPU(b *testing.B, start time.Duration) {
	b.ReportMetric(float64(cpuTime()-start)/float64(b.N), "cpu-ns/op")
}

// BenchmarkWhy asks a recorder of 200,000 stories, written a hundred to a page,
// for an address that is in one of them.
func BenchmarkWhy(b *testing.B) {
	r := open1(b, Options{})
	s := newSession("0SESSION0000001")
	var p page
	items := make([]entry, 100)
	for n := range 200000 {
		items[n%100] = &draft{
			id: message.NewID(noon.Add(time.Duration(n))), session: s.ID, started: noon, ended: noon, facts: factsOf(s), sender: message.Address{Local: "a", Domain: "a.example"},
			recipients: []message.Address{{Local: fmt.Sprint("u", n), Domain: "b.example"}}, subject: "the usual thing", reply: message.NewReply(250, "2.0.0", "Ok"),
		}
		if n%100 == 99 {
			r.writeAll(&p, items)
		}
	}
	for b.Loop() {
		if list, err := r.Why(b.Context(), Query{Subjects: []string{"u77777@b.example"}}); err != nil || len(list) != 1 {
			b.Fatal(len(list), err)
		}
	}
}
