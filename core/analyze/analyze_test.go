package analyze

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// The logs of testdata tell of the same mail, and what the reports are was counted by
// hand:
//
//	100  1000 bytes of ann to joe, taken at 0.0, tried from 0.5 to 1.0: delivered
//	101  2000 bytes of bob to x, from 10 to 12: delivered; to y, from 10 to 13:
//	     deferred, from 410 to 412.5: failed
//	102  1500 bytes of nobody to bob, from 413 to 417: deferred; it is in the queue yet
//	103  300 bytes of ann to joe, from 420 to 423: delivered
func parse(t *testing.T, sink Sink, files ...string) Counts {
	t.Helper()
	r := NewReader(NewMatcher(sink))
	for _, name := range files {
		in, err := os.Open(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Read(in); err != nil {
			t.Fatal(err)
		}
		in.Close()
	}
	return r.Counts()
}

func text(t *testing.T, table *Table) string {
	t.Helper()
	var b strings.Builder
	if err := table.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	s := b.String()
	if i := strings.Index(s, "\n\n"); !table.Facts {
		i = strings.LastIndex(s[:len(s)-1], "\n\n")
		return s[i+2:]
	} else if i < 0 {
		t.Fatal(s)
	}
	return s[strings.Index(s, "Completed"):]
}

const overall = `Completed messages: 3
Recipients for completed messages: 4
Total delivery attempts for completed messages: 5
Average delivery attempts per completed message: 1.66667
Bytes in completed messages: 3300
Bytes weighted by success: 3300
Average message qtime (s): 135.5

Total delivery attempts: 6
  success: 3
  failure: 1
  deferral: 2
Total ddelay (s): 6.000000
Average ddelay per success (s): 2.000000
Total xdelay (s): 15.000000
Average xdelay per delivery attempt (s): 2.500000
Time span (days): 0.00489583
Average concurrency: 0.035461
`

func TestReports(t *testing.T) {
	qmail := map[string]string{
		"zdeferrals": "del  xdelay  reason\n  1    3.00  192.0.2.2 is busy./\n  1    4.00  report mangled\n",
		"zfailures":  "del  xdelay  reason\n  1    2.50  192.0.2.2 does not like recipient./\n",
		"zsuccesses": "del  xdelay  reason\n  1    2.00  192.0.2.1 accepted message./\n  2    3.50  did 1+0+0/\n",
		"zsuids":     "mess  bytes  sbytes  rbytes  recips  tries  xdelay  uid\n   2   1300    1300    1300       2      2    3.50  1001\n   1   2000    2000    4000       2      3    7.50  1002\n",
	}
	own := map[string]string{
		"zdeferrals": "del  xdelay  reason\n  1    3.00  450 4.2.1 Busy\n  1    4.00  451 4.4.1 No answer\n",
		"zfailures":  "del  xdelay  reason\n  1    2.50  550 5.1.1 Nobody\n",
		"zsuccesses": "del  xdelay  reason\n  3    5.50  250 2.0.0 Ok\n",
		"zsuids":     "mess  bytes  sbytes  rbytes  recips  tries  xdelay  uid\n   3   3300    3300    5300       4      5   15.00  -\n",
	}
	common := map[string]string{
		"zoverall":    overall,
		"zddist":      "doneby   avg  pct\n  1.00  1.00  33\n  2.00  1.50  66\n  3.00  2.00  100\n",
		"zrecipients": "sbytes  mess  tries  xdelay  recipient\n  2000     1      1    2.00  remote.x@r1.example\n  1300     2      2    3.50  local.joe@here.example\n     0     0      1    4.00  remote.bob@b.example\n     0     1      2    5.50  remote.y@r2.example\n",
		"zrhosts":     "sbytes  mess  tries  xdelay  host\n  2000     1      1    2.00  r1.example\n  1300     2      2    3.50  here.example\n     0     0      1    4.00  b.example\n     0     1      2    5.50  r2.example\n",
		"zrxdelay":    " avg  tries  recipient\n1.75      2  local.joe@here.example\n2.00      1  remote.x@r1.example\n2.75      2  remote.y@r2.example\n4.00      1  remote.bob@b.example\n",
		"zsenders":    "mess  bytes  sbytes  rbytes  recips  tries  xdelay  sender\n   2   1300    1300    1300       2      2    3.50  <ann@a.example>\n   1   2000    2000    4000       2      3    7.50  <bob@b.example>\n",
	}
	for _, c := range []struct {
		file   string
		format Format
		lines  int64
		of     int64
		more   map[string]string
	}{{"qmail.log", Qmail, 29, 30, qmail}, {"qmail.tai", Qmail, 29, 30, qmail}, {"text.log", Text, 15, 15, own}, {"json.log", JSON, 15, 15, own}} {
		t.Run(c.file, func(t *testing.T) {
			recipients := &Recipients{}
			reports := []Report{
				&Overall{}, &Distribution{}, NewReasons(Deferral), NewReasons(Failure), NewReasons(Success), recipients, &Hosts{}, NewSenders(false), NewSenders(true),
			}
			var all Sinks
			for _, r := range reports {
				all = append(all, r)
			}
			n := parse(t, all, c.file)
			if n.Lines != c.of || n.Understood != c.lines || n.Formats[c.format] != c.lines {
				t.Errorf("%+v", n)
			}
			tables := []*Table{recipients.Order()}
			for _, r := range reports {
				tables = append(tables, r.Table())
			}
			for _, table := range tables {
				want, ok := common[table.Name]
				if !ok {
					want = c.more[table.Name]
				}
				if got := text(t, table); got != want {
					t.Errorf("%s:\n%s\nwant\n%s", table.Name, got, want)
				}
				checkForms(t, table)
			}
		})
	}
}

// checkForms: JSON is JSON and CSV is CSV, with as many rows.
func checkForms(t *testing.T, table *Table) {
	t.Helper()
	b, err := json.Marshal(table)
	var got struct {
		Report string
		Rows   []map[string]any
		Facts  map[string]any
	}
	if err == nil {
		err = json.Unmarshal(b, &got)
	}
	if err != nil || got.Report != table.Name || !table.Facts && len(got.Rows) != len(table.Rows) || table.Facts && got.Facts["Completed messages"] != 3.0 {
		t.Errorf("%s: %v, %s", table.Name, err, b)
	}
	var c bytes.Buffer
	if err := table.WriteCSV(&c); err != nil {
		t.Fatal(err)
	}
	list, err := csv.NewReader(&c).ReadAll()
	want := len(slices.DeleteFunc(slices.Clone(table.Rows), func(r []any) bool { return len(r) == 0 })) + 1
	if err != nil || len(list) != want {
		t.Errorf("%s: %v, %d rows, want %d", table.Name, err, len(list), want)
	}
}

func matched(t *testing.T, files ...string) string {
	t.Helper()
	var b bytes.Buffer
	w := bufio.NewWriter(&b)
	parse(t, &Lines{W: w}, files...)
	w.Flush()
	return b.String()
}

const matchedQmail = `d k 1000000000.000000 1000000000.500000 1000000001.000000 1000 <ann@a.example> local.joe@here.example 5001 1001 did_1+0+0/
m 1000000000.000000 1000000001.000000 1000 1 0 0 <ann@a.example> 5001 1001
d k 1000000010.000000 1000000010.000000 1000000012.000000 2000 <bob@b.example> remote.x@r1.example 5002 1002 192.0.2.1_accepted_message./
d z 1000000010.000000 1000000010.000000 1000000013.000000 2000 <bob@b.example> remote.y@r2.example 5002 1002 192.0.2.2_is_busy./
d d 1000000010.000000 1000000410.000000 1000000412.500000 2000 <bob@b.example> remote.y@r2.example 5002 1002 192.0.2.2_does_not_like_recipient./
m 1000000010.000000 1000000412.500000 2000 1 1 1 <bob@b.example> 5002 1002
d z 1000000413.000000 1000000413.000000 1000000417.000000 1500 <> remote.bob@b.example 5003 1003 report_mangled
d k 1000000420.000000 1000000420.000000 1000000423.000000 300 <ann@a.example> local.joe@here.example 5004 1001 did_1+0+0/
m 1000000420.000000 1000000423.000000 300 1 0 0 <ann@a.example> 5004 1001
`

func TestMatchup(t *testing.T) {
	if got := matched(t, "qmail.log"); got != matchedQmail {
		t.Errorf("\n%s", got)
	}
	// Its own lines are read again, whatever they were made of.
	for _, file := range []string{"qmail.tai", "text.log", "json.log"} {
		once := matched(t, file)
		var b bytes.Buffer
		w := bufio.NewWriter(&b)
		if err := NewReader(NewMatcher(&Lines{W: w})).Read(strings.NewReader(once)); err != nil {
			t.Fatal(err)
		}
		w.Flush()
		if b.String() != once || strings.Count(once, "\n") != 9 {
			t.Errorf("%s:\n%s\n%s", file, once, b.String())
		}
	}
}

// TestChunks: however a log is cut, lines too, what comes out with a state in between
// is the same.
func TestChunks(t *testing.T) {
	whole, err := os.ReadFile("testdata/qmail.log")
	if err != nil {
		t.Fatal(err)
	}
	for cut := 0; cut <= len(whole); cut += 7 {
		var out bytes.Buffer
		state := ""
		for _, part := range [][]byte{whole[:cut], whole[cut:], nil} {
			w := bufio.NewWriter(&out)
			r := NewReader(NewMatcher(&Lines{W: w}))
			if err := r.LoadState(strings.NewReader(state)); err != nil {
				t.Fatal(err)
			}
			if err := r.Read(bytes.NewReader(part)); err != nil {
				t.Fatal(err)
			}
			var s strings.Builder
			if err := r.WriteState(&s); err != nil {
				t.Fatal(err)
			}
			state = s.String()
			w.Flush()
		}
		if out.String() != matchedQmail {
			t.Fatalf("cut at %d:\n%s", cut, out.String())
		}
		want := "1000000413.000000 info msg 102: bytes 1500 from <> qp 5003 uid 1003\n1000000413.000000 extra 102 0 1 0\n1000000424.000000 starting delivery 7: msg 102 to remote bob@b.example\n"
		if state != want {
			t.Fatalf("cut at %d: state\n%s", cut, state)
		}
	}
}

func TestOtherLines(t *testing.T) {
	var list []string
	r := NewReader(NewMatcher(&Overall{}))
	r.Other = func(line []byte) error { list = append(list, string(line)); return nil }
	in, err := os.ReadFile("testdata/qmail.log")
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Read(bytes.NewReader(in)); err != nil {
		t.Fatal(err)
	}
	want := []string{"1000000020.000000 warning: trouble opening remote/1/101; will try again later", "? 1000000424.000000 no line of ours"}
	if !slices.Equal(list, want) {
		t.Errorf("%q", list)
	}
}

// TestPrefixes: what syslog and the journal put in front is passed over.
func TestPrefixes(t *testing.T) {
	for _, prefix := range []string{"Nov 28 06:07:08 host qmail: ", "2026-11-28T06:07:08+00:00 host qmail[12]: "} {
		log := ""
		for _, line := range []string{"5.0 new msg 1", "5.0 info msg 1: bytes 2 from <a@b> qp 3 uid 4", "6.5 end msg 1"} {
			log += prefix + line + "\n"
		}
		o := &Overall{}
		r := NewReader(NewMatcher(o))
		if err := r.Read(strings.NewReader(log)); err != nil || o.messages != 1 || o.queued != 1.5 || r.Counts().Understood != 3 {
			t.Errorf("%q: %v, %+v, %+v", prefix, err, o, r.Counts())
		}
	}
	o := &Overall{}
	log := "5.0 host qmail[1]: info msg 1: bytes 2 from <a@b> qp 3 uid 4\n7.0 host qmail[1]: end msg 1\n"
	if err := NewReader(NewMatcher(o)).Read(strings.NewReader(log)); err != nil || o.messages != 1 || o.queued != 2 {
		t.Errorf("%v, %+v", err, o)
	}
}

func TestNothingUnderstood(t *testing.T) {
	for log, want := range map[string]string{
		"hello\nworld\n": "0 of 2 lines understood: expected qmail-send's lines",
		"new msg 1\ninfo msg 1: bytes 1 from <> qp 1 uid 1\nx\n": "0 of 3 lines understood: 2 of them are qmail-send's, but no time stamp",
	} {
		r := NewReader(NewMatcher(&Overall{}))
		if err := r.Read(strings.NewReader(log)); err != nil {
			t.Fatal(err)
		}
		if err := r.Counts().Nothing(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v", err)
		}
	}
	if err := (Counts{}).Nothing(); err != nil {
		t.Error(err)
	}
}

func TestStamps(t *testing.T) {
	for in, want := range map[string]string{
		"901967408.113926": "901967408.113926", "901967408": "901967408.000000", "1.123456789": "1.123456789", "1.5": "1.500000",
		"@4000000035c2f23a06ca4850": "901968432.113920080", "@400000000000000a00000000": "0.000000",
	} {
		if s, ok := parseStamp([]byte(in)); !ok || s.String() != want {
			t.Errorf("%s: %v %s", in, ok, s)
		}
	}
	for _, in := range []string{"", "x", "1.", "1.x", ".5", "-1", "99999999999.0", "@4000000035c2f23a06ca485", "@0000000000000000000000000", "@4000000035c2f23aeeeeeeee", "@4000000035C2F23A06CA4850"} {
		if s, ok := parseStamp([]byte(in)); ok {
			t.Errorf("%q: %s", in, s)
		}
	}
}

func TestFilters(t *testing.T) {
	for want, f := range map[int]Filter{
		4: {Sender: "Ann@a.example"}, 2: {Recipient: "local.joe@HERE.example"}, 6: {}, 1: {Sender: "<>"},
	} {
		var b bytes.Buffer
		w := bufio.NewWriter(&b)
		f.To = &Lines{W: w}
		if f == (Filter{To: f.To}) {
			f.QP, want = "5002", 4
		}
		parse(t, &f, "qmail.log")
		w.Flush()
		if n := strings.Count(b.String(), "\n"); n != want {
			t.Errorf("%+v: %d lines, want %d\n%s", f, n, want, b.String())
		}
	}
	var b bytes.Buffer
	w := bufio.NewWriter(&b)
	parse(t, &Filter{To: &Lines{W: w}, Recipient: "y@r2.example"}, "qmail.log")
	w.Flush()
	if n := strings.Count(b.String(), "\nd "); n != 1 || !strings.HasPrefix(b.String(), "d z ") {
		t.Errorf("%s", b.String())
	}
}

func TestListing(t *testing.T) {
	var b bytes.Buffer
	w := bufio.NewWriter(&b)
	parse(t, &Listing{W: w}, "qmail.log")
	w.Flush()
	for _, want := range []string{
		"1000000412.500000 qp 5002: to=remote.y@r2.example, uid=1002, ddelay=402.500000, xdelay=2.500000, stat=Failed (192.0.2.2_does_not_like_recipient./)\n",
		"1000000412.500000 qp 5002: from=<bob@b.example>, uid=1002, size=2000, nrcpts=2, deferrals=1, qtime=402.500000\n",
		"stat=Sent (did_1+0+0/)\n", "stat=Deferred (report_mangled)\n",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}

// TestFolding: with more names than there is room, all rows together stay exact, and
// those with the most stay by themselves.
func TestFolding(t *testing.T) {
	r := &Recipients{}
	r.g.most = 100
	rnd := rand.New(rand.NewPCG(1, 2))
	total := 0
	for i := range 20_000 {
		to := fmt.Sprintf("remote.u%d@x.example", rnd.IntN(5000))
		if i%4 == 0 {
			to = "remote.big@x.example"
		}
		total++
		_ = r.Delivery(&Delivery{Result: Success, Start: 0, Done: 1e9, Bytes: 3, Recipient: to})
	}
	table := r.Table()
	var tries, bytes int64
	for _, row := range table.Rows {
		tries, bytes = tries+row[2].(int64), bytes+row[0].(int64)
	}
	if tries != int64(total) || bytes != int64(3*total) || len(table.Rows) > 101 || table.Folded == 0 || table.Rows[len(table.Rows)-1][4] != "(others)" {
		t.Errorf("%d tries, %d bytes, %d rows, %d folded", tries, bytes, len(table.Rows), table.Folded)
	}
	if i := slices.IndexFunc(table.Rows, func(row []any) bool { return row[4] == "remote.big@x.example" }); i < 0 || table.Rows[i][2] != int64(5000) {
		t.Error("the one with the most is not exact")
	}
	if left := table.Top(1); left == 0 || len(table.Rows) != 1 {
		t.Errorf("top: %d left", left)
	}
}

// TestDelaysBeyond: the classes that more delays than MaxDelays go into are off by a
// hundredth at most.
func TestDelaysBeyond(t *testing.T) {
	exact, coarse := &Distribution{}, &Distribution{classes: map[int]*class{}}
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 10_000 {
		d := &Delivery{Result: Success, Done: Stamp(rnd.ExpFloat64() * 30e9)}
		_, _ = exact.Delivery(d), coarse.Delivery(d)
	}
	a, b := exact.Table(), coarse.Table()
	by := map[int64]float64{}
	for _, row := range a.Rows {
		by[row[2].(int64)] = float64(row[0].(Seconds))
	}
	for _, row := range b.Rows {
		want := by[row[2].(int64)]
		if got := float64(row[0].(Seconds)); got < want*0.98 || got > want*1.02+0.02 {
			t.Errorf("%d %%: %.3f, want %.3f", row[2], got, want)
		}
	}
	if len(b.Rows) < 50 || slices.Max(exact.Bands()) == 0 {
		t.Errorf("%d rows", len(b.Rows))
	}
}

func TestForgetting(t *testing.T) {
	m := NewMatcher(&Overall{})
	m.messages.most, m.deliveries.most = 10, 10
	r := NewReader(m)
	var log strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&log, "%d.5 info msg %d: bytes 2 from <a@b> qp 3 uid 4\n%d.5 starting delivery %d: msg %d to remote x@y\n", i, i, i, i, i)
		if i%2 == 0 {
			fmt.Fprintf(&log, "%d.6 delivery %d: success: x\n%d.6 end msg %d\n", i, i, i, i)
		}
	}
	if err := r.Read(strings.NewReader(log.String())); err != nil {
		t.Fatal(err)
	}
	messages, deliveries := m.Open()
	if c := r.Counts(); messages != 10 || deliveries != 10 || c.Forgotten != 2*(2500-10) || len(m.messages.order) > 2000 {
		t.Errorf("%d %d %+v, order %d", messages, deliveries, c, len(m.messages.order))
	}
}

func TestSeriesAndPlots(t *testing.T) {
	d, s := &Distribution{}, &Series{}
	parse(t, Sinks{d, s}, "qmail.log")
	start, parts := s.Within(30)
	if len(parts) != 8 || s.Width() != time.Minute || parts[0].Successes != 2 || parts[0].Deferrals != 1 || parts[7].Successes != 1 || parts[7].Failures != 1 || parts[7].Deferrals != 1 ||
		start[0] != time.Date(2001, 9, 9, 1, 46, 0, 0, time.UTC) {
		t.Errorf("%v %+v", start, parts)
	}
	// A year of it is days, of which no mail is lost.
	for i := range 365 * 24 {
		_ = s.Delivery(&Delivery{Result: Success, Done: Stamp(1e18) + Stamp(i)*3600e9, Bytes: 1})
	}
	var n int64
	_, parts = s.Within(1000)
	for _, p := range parts {
		n += p.Successes
	}
	if n != 3+365*24 || len(parts) > slots || s.Width() != 24*time.Hour {
		t.Errorf("%d in %d parts of %s", n, len(parts), s.Width())
	}
	var b strings.Builder
	if err := Charts(&b, d, s, 80); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"up to 1 s  ", "1 (33.3 %)", "Outcomes, a line per ", "Volume delivered"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
	for line := range strings.Lines(b.String()) {
		if len([]rune(line)) > 100 {
			t.Errorf("%q is too wide", line)
		}
	}
	o := &Overall{}
	hostile := &Recipients{}
	_ = hostile.Delivery(&Delivery{Recipient: "remote.<script>alert(1)</script>@x"})
	b.Reset()
	if err := Page(&b, "a <b>", d, s, []*Table{o.Table(), hostile.Table()}, []int{0, 3}); err != nil {
		t.Fatal(err)
	}
	page := b.String()
	if strings.Contains(page, "<script") || strings.Contains(page, "a <b>") || strings.Count(page, "<svg") != 3 || strings.Count(page, "</svg>") != 3 || !strings.Contains(page, "and 3 more") {
		t.Error(page)
	}
	for _, outside := range []string{"src=", "href=", "url(", "@import"} {
		if strings.Contains(page, outside) {
			t.Errorf("the page refers to something else: %s", outside)
		}
	}
	if got := Plots(&Distribution{}, &Series{}); len(got) != 1 {
		t.Errorf("%d plots of nothing", len(got))
	}
}

func TestLongLines(t *testing.T) {
	log := strings.Repeat("x", 200_000) + "\n5.0 info msg 1: bytes 2 from <a@b> qp 3 uid 4\n6.0 end msg 1\n" + strings.Repeat("y", 100_000)
	o := &Overall{}
	r := NewReader(NewMatcher(o))
	if err := r.Read(strings.NewReader(log)); err != nil || o.messages != 1 {
		t.Errorf("%v, %+v", err, o)
	}
	if c := r.Counts(); c.Lines != 4 || c.Understood != 2 || c.Bytes != int64(len(log)) {
		t.Errorf("%+v", c)
	}
}

func FuzzLines(f *testing.F) {
	for _, name := range []string{"qmail.log", "qmail.tai", "text.log", "json.log"} {
		b, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, 100)
	}
	f.Add([]byte(matchedQmail), 5)
	f.Add([]byte("? x\nm 1 2 3 4 5 6 7 8 9\nd k 1 2 3 4 5 6 7 8 9\n"), 3)
	f.Fuzz(func(t *testing.T, log []byte, cut int) {
		run := func(parts ...[]byte) string {
			var out bytes.Buffer
			state := ""
			for _, part := range append(parts, []byte("\n")) {
				w := bufio.NewWriter(&out)
				lines := &Lines{W: w}
				recipients := &Recipients{}
				r := NewReader(NewMatcher(Sinks{lines, &Overall{}, recipients, NewSenders(true), NewReasons(Success), &Distribution{}, &Series{}}))
				if err := r.LoadState(strings.NewReader(state)); err != nil {
					t.Fatal(err)
				}
				if err := r.Read(bytes.NewReader(part)); err != nil {
					t.Fatal(err)
				}
				var s strings.Builder
				if err := r.WriteState(&s); err != nil {
					t.Fatal(err)
				}
				state = s.String()
				w.Flush()
				if c := r.Counts(); c.Understood > c.Lines {
					t.Fatalf("%+v", c)
				}
				if _, err := json.Marshal(recipients.Table()); err != nil {
					t.Fatal(err)
				}
			}
			return out.String()
		}
		once := run(log)
		for line := range strings.Lines(once) {
			if strings.Count(line, "\n") != 1 {
				t.Fatalf("%q", line)
			}
		}
		_ = run(log[:min(uint(cut), uint(len(log)))], log[min(uint(cut), uint(len(log))):])
	})
}

// BenchmarkLines reads logs of qmail and of ours.
func BenchmarkLines(b *testing.B) {
	for _, name := range []string{"qmail.tai", "text.log", "json.log"} {
		b.Run(name, func(b *testing.B) {
			one, err := os.ReadFile(filepath.Join("testdata", name))
			if err != nil {
				b.Fatal(err)
			}
			log := bytes.Repeat(one, 100)
			b.SetBytes(int64(len(log)))
			b.ReportAllocs()
			for b.Loop() {
				r := NewReader(NewMatcher(Sinks{&Overall{}, &Distribution{}, &Recipients{}, NewSenders(false)}))
				if err := r.Read(bytes.NewReader(log)); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(bytes.Count(log, []byte("\n"))*b.N)/b.Elapsed().Seconds(), "lines/s")
		})
	}
}
