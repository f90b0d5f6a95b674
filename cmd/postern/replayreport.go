package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/postern-mta/postern/core/record"
	"github.com/postern-mta/postern/hooks"
)

// This file is what a replay tells: what becomes of past mail, and what changes.

// replayReport is `replay --json`.
type replayReport struct {
	Messages       int            `json:"messages"`
	Changed        int            `json:"changed"`
	HeaderOnly     int            `json:"header_only"`     // judged as far as stage headers
	UnknownLookups int            `json:"unknown_lookups"` // that were not asked when the mail came
	Verdicts       map[string]int `json:"verdicts"`        // of the configuration
	Changes        []replayChange `json:"changes"`         // the most frequent first
	Labels         []*labelled    `json:"labels,omitempty"`

	refusals int // of mail that passed, or is known to be wanted
}

// replayChange is verdicts that change in the same way.
type replayChange struct {
	From     judgement       `json:"from"`
	To       judgement       `json:"to"`
	Count    int             `json:"count"`
	Examples []replayExample `json:"examples"`
}

type replayExample struct {
	ID        string    `json:"id"`
	Time      time.Time `json:"time"`
	Client    string    `json:"client"`
	Sender    string    `json:"sender"`
	Recipient string    `json:"recipient"`
	Subject   string    `json:"subject,omitempty"`
	Was       string    `json:"was,omitempty"` // replies
	Now       string    `json:"now,omitempty"`
}

// comparison is who judges.
type comparison struct {
	now, then *judges       // then may be nil
	retry     time.Duration // after which deferred mail comes again; 0: it does not
	examples  int           // of each change
}

// compareAll judges every case and gathers what changes. Without other judges,
// and for files that have no past, nothing is compared.
func compareAll(ctx context.Context, progress io.Writer, cases iter.Seq2[*pastMail, error], by comparison) (*replayReport, error) {
	now, then := by.now, by.then
	r := &replayReport{Verdicts: map[string]int{}, Changes: []replayChange{}}
	changes := map[string]*replayChange{}
	bar := newProgress(progress, "replaying", -1)
	defer bar.end()
	var mu sync.Mutex
	err := parted(ctx, cases, len(now.all), func(worker int, p *pastMail) {
		is := now.all[worker].judge(ctx, p, by.retry)
		was := p.was
		if then != nil {
			other := then.all[worker].judge(ctx, p, by.retry)
			was = &other
		}
		if was != nil && is.Verdict == headerOnly {
			cut := was.asHeaderOnly()
			was = &cut
		}
		mu.Lock()
		defer mu.Unlock()
		r.Messages++
		r.Verdicts[is.Verdict]++
		if p.label != "" {
			r.label(p.label).add(p, &is, by.examples)
		}
		if !p.whole {
			r.HeaderOnly++
		}
		bar.at(r.Messages)
		if was == nil || is.same(*was) {
			return
		}
		r.Changed++
		if passes(was.Verdict) && !passes(is.Verdict) {
			r.refusals++
		}
		key := strings.Join([]string{was.Verdict, was.Policy, was.Stage, is.Verdict, is.Policy, is.Stage}, "\x00")
		one := changes[key]
		if one == nil {
			one = &replayChange{From: judgement{Verdict: was.Verdict, Policy: was.Policy, Stage: was.Stage}, To: judgement{Verdict: is.Verdict, Policy: is.Policy, Stage: is.Stage}, Examples: []replayExample{}}
			changes[key] = one
		}
		one.Count++
		if len(one.Examples) < by.examples {
			one.Examples = append(one.Examples, p.example(was, &is))
		}
	})
	for _, j := range now.all {
		r.UnknownLookups += j.resolver.Unknown
	}
	slices.SortFunc(r.Labels, func(a, b *labelled) int { return strings.Compare(a.Label, b.Label) })
	for _, l := range r.Labels {
		l.sort()
		if l.Label == labelHam {
			r.refusals += l.Refused
		}
	}
	for _, one := range changes {
		r.Changes = append(r.Changes, *one)
	}
	slices.SortFunc(r.Changes, func(a, b replayChange) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), strings.Compare(a.From.String()+a.To.String(), b.From.String()+b.To.String()))
	})
	return r, err
}

// passes tells whether mail with that verdict reaches anybody.
func passes(verdict string) bool {
	return verdict == record.Queued.String() || verdict == headerOnly
}

func (p *pastMail) example(was, is *judgement) replayExample {
	e := replayExample{ID: p.id, Time: p.at, Client: p.session.Client.Addr().Unmap().String(), Sender: p.sender, Subject: p.subject, Was: was.Reply, Now: is.Reply}
	if len(p.recipients) > 0 {
		e.Recipient = p.recipients[0]
	}
	return e
}

// String is the judgement in a line for people.
func (j judgement) String() string {
	s := j.Verdict
	if j.Policy != "" && !passes(j.Verdict) {
		s += " by " + record.Clean(j.Policy)
		if j.Stage != "" && j.Stage != hooks.Stage(0).String() {
			s += " at " + j.Stage
		}
	}
	return s
}

func (r *replayReport) print(w io.Writer, compared bool) {
	fmt.Fprintf(w, "%s", count(r.Messages, "message"))
	for _, verdict := range sortedByCount(r.Verdicts) {
		fmt.Fprintf(w, ", %d %s", r.Verdicts[verdict], verdict)
	}
	fmt.Fprintln(w)
	if r.HeaderOnly > 0 {
		fmt.Fprintf(w, "%s judged as far as stage headers: only that much of the mail is kept\n", count(r.HeaderOnly, "message"))
	}
	if r.UnknownLookups > 0 {
		fmt.Fprintf(w, "%s without an answer: nobody asked that when the mail came\n", count(r.UnknownLookups, "look-up"))
	}
	r.printLabels(w)
	if !compared {
		return
	}
	if r.Changed == 0 {
		fmt.Fprintln(w, "no verdict changes")
		return
	}
	fmt.Fprintf(w, "%s changed\n", count(r.Changed, "verdict"))
	for _, one := range r.Changes {
		fmt.Fprintf(w, "\n%6d  %s → %s\n", one.Count, one.From, one.To)
		for _, e := range one.Examples {
			fmt.Fprintf(w, "        %s  <%s> → <%s>  %s  %q\n", record.Clean(e.ID), record.Clean(e.Sender), record.Clean(e.Recipient), e.Client, record.Clean(e.Subject))
			if e.Now != "" && !passes(one.To.Verdict) {
				fmt.Fprintf(w, "          now: %s\n", record.Clean(e.Now))
			}
		}
	}
}

func sortedByCount(m map[string]int) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(cmp.Compare(m[b], m[a]), strings.Compare(a, b)) })
	return names
}
