package record

import (
	"cmp"
	"context"
	"fmt"
	"hash/maphash"
	"slices"
	"strings"
	"time"
)

// Bounds of a shadow report. Beyond them counts are too low, never memory too high.
const (
	maxAwaited        = 1 << 17 // answers whose story is still to come
	maxCorrespondents = 1 << 20 // addresses that own users wrote to
	maxDoubted        = 1 << 16 // senders of one decision
	MostExamples      = 1000    // of ShadowQuery.Examples
)

// Edit is the decision of a shadow report for a policy that let a message pass and
// would have changed it.
const Edit = "edit"

// ShadowQuery asks what policies in shadow mode would have done to the messages
// whose verdict fell from Since to Until; zero times are no bound.
type ShadowQuery struct {
	Since    time.Time `json:"since,omitzero"`
	Until    time.Time `json:"until,omitzero"`
	Policies []string  `json:"policies,omitempty"` // these alone; none: all
	Examples int       `json:"examples,omitempty"` // of each decision, at most
}

// Check tells what is wrong with the query.
func (q *ShadowQuery) Check() error {
	if q.Examples < 0 || q.Examples > MostExamples {
		return fmt.Errorf("%d examples: from 0 to %d are possible", q.Examples, MostExamples)
	}
	return nil
}

// ShadowReport is the JSON of `postern shadow report --json`.
type ShadowReport struct {
	Since    time.Time      `json:"since"` // of the oldest message looked at
	Until    time.Time      `json:"until"`
	Messages int            `json:"messages"`
	Policies []ShadowPolicy `json:"policies"`
	Orphans  int            `json:"orphans,omitempty"` // answers whose message is not on record
}

// ShadowPolicy is one policy's part.
type ShadowPolicy struct {
	Policy    string           `json:"policy"`
	Judged    int              `json:"judged"`           // messages that it was asked about
	Failed    int              `json:"failed,omitempty"` // of them: it failed
	Decisions []ShadowDecision `json:"decisions"`        // the most frequent first, pass left out
}

// ShadowDecision counts the messages that would have met with a decision. One that
// met with several, for several recipients, counts for each.
type ShadowDecision struct {
	Decision string         `json:"decision"` // a verb, or Edit
	Messages int            `json:"messages"`
	Verdicts map[string]int `json:"verdicts"` // what became of them
	// Refused is how many of them, or all of their recipients that the decision was
	// about, were refused by somebody else.
	Refused int `json:"refused_anyway"`
	// Doubtful is how many went on their way although there is a reason to think
	// that they were wanted, and the decision would have kept them from it; the
	// reasons count apart.
	Doubtful      int             `json:"doubtful"`
	Authenticated int             `json:"authenticated,omitempty"` // the client had logged in
	Relaying      int             `json:"relaying,omitempty"`      // or was allowed to relay
	Correspondent int             `json:"correspondent,omitempty"` // or one that may had written to the sender
	Examples      []ShadowExample `json:"examples"`                // the doubtful ones first, then the newest
}

// ShadowExample is a message that would have met with the decision.
type ShadowExample struct {
	ID        string    `json:"id"`
	Time      time.Time `json:"time"`
	Client    string    `json:"client"`
	Sender    string    `json:"sender"`
	Recipient string    `json:"recipient,omitempty"` // the one the decision was about, else the first
	Subject   string    `json:"subject,omitempty"`
	Verdict   string    `json:"verdict"`
	Stage     string    `json:"stage"`
	Said      string    `json:"said,omitempty"`  // what the client would have been told, the reason or the edit
	Doubt     string    `json:"doubt,omitempty"` // authenticated, relaying or correspondent
}

// said is one answer of a policy in shadow.
type said struct {
	stage, recipient string
	answer           Answer
}

// shadowing is a report in the making, from the newest message to the oldest.
type shadowing struct {
	q              *ShadowQuery
	report         ShadowReport
	seed           maphash.Seed
	policies       map[string]*shadowed
	awaited        map[string][]said // by id
	sessions       map[string][]said // by session: of what belongs to no message
	waiting        int
	correspondents map[uint64]struct{}
}

// shadowed is what is gathered of a policy.
type shadowed struct {
	ShadowPolicy
	by map[string]*doubted
}

// doubted is a decision with the senders of those messages that went through.
type doubted struct {
	ShadowDecision
	senders map[uint64]*ShadowExample
	counts  map[uint64]int
}

// Shadow reports what policies in shadow mode would have done. It reads every
// story of the time asked for.
func (r *Recorder) Shadow(ctx context.Context, q ShadowQuery) (ShadowReport, error) {
	if err := q.Check(); err != nil {
		return ShadowReport{}, err
	}
	r.Flush()
	r.using.RLock()
	defer r.using.RUnlock()
	if err := r.ready(); err != nil {
		return ShadowReport{}, err
	}
	w := shadowing{
		q: &q, seed: maphash.MakeSeed(), policies: map[string]*shadowed{}, awaited: map[string][]said{}, sessions: map[string][]said{},
		correspondents: map[uint64]struct{}{}, report: ShadowReport{Since: q.Since, Until: q.Until, Policies: []ShadowPolicy{}},
	}
	from := uint64(0)
	if !q.Since.IsZero() {
		from = uint64(max(q.Since.UnixNano(), 0))
	}
	s := search{ctx: ctx, db: r.db.DB}
	if err := s.scan(from, true, func([]byte) bool { return true }, w.page); err != nil {
		return ShadowReport{}, err
	}
	return w.result(), nil
}

func (w *shadowing) page(_ uint64, value []byte) bool {
	var stories []Story
	records(value, func(record []byte) bool {
		if len(record) == 0 || record[0] == attemptRecord || record[0] == leftRecord {
			return true
		}
		t, err := decode(record)
		switch {
		case err != nil:
		case t.kind == lateRecord:
			w.late(&t)
		default:
			stories = append(stories, t.story)
		}
		return true
	})
	for _, one := range slices.Backward(stories) {
		w.story(&one)
	}
	return true
}

// late keeps the shadow answers of what was told after its story.
func (w *shadowing) late(t *told) {
	list := w.shadowIn(nil, &t.step)
	switch {
	case len(list) == 0:
	case w.waiting+len(list) > maxAwaited:
		w.report.Orphans += len(list)
	case t.id == "":
		w.sessions[t.session] = append(w.sessions[t.session], list...)
		w.waiting += len(list)
	default:
		w.awaited[t.id] = append(w.awaited[t.id], list...)
		w.waiting += len(list)
	}
}

func (w *shadowing) shadowIn(list []said, step *Step) []said {
	for _, h := range step.Handlers {
		if h.Shadow && (len(w.q.Policies) == 0 || slices.Contains(w.q.Policies, h.Policy)) {
			list = append(list, said{step.Stage, step.Recipient, h})
		}
	}
	return list
}

func (w *shadowing) story(s *Story) {
	list := w.awaited[s.ID]
	delete(w.awaited, s.ID)
	w.waiting -= len(list)
	if !w.q.Since.IsZero() && s.Ended.Before(w.q.Since) || !w.q.Until.IsZero() && !s.Ended.Before(w.q.Until) {
		return
	}
	w.report.Messages++
	if w.report.Since.IsZero() || w.q.Since.IsZero() && s.Ended.Before(w.report.Since) {
		w.report.Since = s.Ended
	}
	if w.report.Until.IsZero() {
		w.report.Until = s.Ended
	}
	if s.User != "" || s.Relaying {
		for _, to := range s.Recipients {
			if len(w.correspondents) < maxCorrespondents {
				w.correspondents[w.hash(to)] = struct{}{}
			}
		}
	}
	for i := range s.Stages {
		list = w.shadowIn(list, &s.Stages[i])
	}
	w.count(s, append(list, w.sessions[s.Session]...))
}

func (w *shadowing) hash(address string) uint64 { return maphash.String(w.seed, lower(address)) }

// count books the answers about one message.
func (w *shadowing) count(s *Story, list []said) {
	type kind struct{ policy, decision string }
	groups := map[kind][]said{}
	asked := map[string]bool{} // by policy: whether it failed
	for _, one := range list {
		h := &one.answer
		asked[h.Policy] = asked[h.Policy] || h.Error != ""
		decision := h.Decision
		if decision == "pass" && len(h.Edits) > 0 {
			decision = Edit
		}
		if decision != "pass" {
			k := kind{h.Policy, decision}
			groups[k] = append(groups[k], one)
		}
	}
	for policy, failed := range asked {
		p := w.policies[policy]
		if p == nil {
			p = &shadowed{ShadowPolicy{Policy: policy, Decisions: []ShadowDecision{}}, map[string]*doubted{}}
			w.policies[policy] = p
		}
		p.Judged++
		if failed {
			p.Failed++
		}
	}
	for k, answers := range groups {
		p := w.policies[k.policy]
		d := p.by[k.decision]
		if d == nil {
			d = &doubted{ShadowDecision{Decision: k.decision, Verdicts: map[string]int{}, Examples: []ShadowExample{}}, map[uint64]*ShadowExample{}, map[uint64]int{}}
			p.by[k.decision] = d
		}
		w.decision(d, s, answers)
	}
}

func (w *shadowing) decision(d *doubted, s *Story, answers []said) {
	d.Messages++
	d.Verdicts[s.Verdict]++
	example := exampleOf(s, &answers[0])
	refused := s.Verdict == Rejected.String() || s.Verdict == Deferred.String() || !slices.ContainsFunc(answers, func(one said) bool { return !s.turned(one.recipient) })
	switch {
	case refused:
		d.Refused++
	case d.Decision == Edit || d.Decision == "accept" || s.Verdict != Queued.String() && s.Verdict != Relayed.String():
	case s.User != "":
		example.Doubt = "authenticated"
		d.Authenticated++
	case s.Relaying:
		example.Doubt = "relaying"
		d.Relaying++
	case s.Sender != "":
		h := w.hash(s.Sender)
		if d.counts[h] > 0 || len(d.counts) < maxDoubted {
			d.counts[h]++
		}
		if d.senders[h] == nil && d.counts[h] == 1 {
			d.senders[h] = &example
		}
	}
	if example.Doubt != "" {
		d.Doubtful++
	}
	d.keep(example, w.q.Examples)
}

// turned tells whether the recipient was refused; "" is none.
func (s *Story) turned(recipient string) bool {
	return recipient != "" && slices.ContainsFunc(s.Refusals, func(f Refusal) bool { return f.Recipient == recipient })
}

// keep adds an example where there is room, or where it is doubtful and one kept
// is not.
func (d *doubted) keep(one ShadowExample, most int) {
	if len(d.Examples) < most {
		d.Examples = append(d.Examples, one)
		return
	}
	if one.Doubt == "" {
		return
	}
	for i, old := range slices.Backward(d.Examples) {
		if old.Doubt == "" {
			d.Examples[i] = one
			return
		}
	}
}

func exampleOf(s *Story, about *said) ShadowExample {
	h := &about.answer
	one := ShadowExample{ID: s.ID, Time: s.Time, Client: s.Client, Sender: s.Sender, Recipient: about.recipient, Subject: s.Subject, Verdict: s.Verdict, Stage: about.stage}
	if one.Recipient == "" && len(s.Recipients) > 0 {
		one.Recipient = s.Recipients[0]
	}
	one.Said = cmp.Or(h.Reply, h.Reason, strings.Join(h.Edits, "; "))
	return one
}

// result finishes the report: only now all that own users wrote to are known.
func (w *shadowing) result() ShadowReport {
	for _, left := range w.awaited {
		w.report.Orphans += len(left)
	}
	for _, p := range w.policies {
		for _, d := range p.by {
			for sender, n := range d.counts {
				if _, known := w.correspondents[sender]; !known {
					continue
				}
				d.Correspondent += n
				d.Doubtful += n
				example := *d.senders[sender]
				example.Doubt = "correspondent"
				if i := slices.IndexFunc(d.Examples, func(e ShadowExample) bool { return e.ID == example.ID }); i >= 0 {
					d.Examples[i] = example
				} else {
					d.keep(example, w.q.Examples)
				}
			}
			slices.SortStableFunc(d.Examples, func(a, b ShadowExample) int {
				if doubt := strings.Compare(b.Doubt, a.Doubt); (a.Doubt == "") != (b.Doubt == "") {
					return doubt
				}
				return b.Time.Compare(a.Time)
			})
			p.Decisions = append(p.Decisions, d.ShadowDecision)
		}
		slices.SortFunc(p.Decisions, func(a, b ShadowDecision) int {
			return cmp.Or(b.Messages-a.Messages, strings.Compare(a.Decision, b.Decision))
		})
		w.report.Policies = append(w.report.Policies, p.ShadowPolicy)
	}
	slices.SortFunc(w.report.Policies, func(a, b ShadowPolicy) int { return strings.Compare(a.Policy, b.Policy) })
	return w.report
}
