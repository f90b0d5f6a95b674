package record

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/postern-mta/postern/core/message"
)

// maxJoined bounds the attempts, and the later stages, of one story.
const maxJoined = 10000

// slow is how long a story may take to the writer.
const slow = time.Minute

// Why finds the stories that q asks for, the newest first. None is no error. A
// search that no index helps, such as for a text, reads every page from the newest
// one back, until it has what q.Limit allows.
func (r *Recorder) Why(ctx context.Context, q Query) ([]Story, error) {
	asked, err := newQuestion(&q)
	if err != nil {
		return nil, err
	}
	r.Flush()
	r.using.RLock()
	defer r.using.RUnlock()
	if err := r.ready(); err != nil {
		return nil, err
	}
	if list, done, err := answerFew(ctx, r.db.DB, asked); done || err != nil {
		return list, err
	}
	return answer(ctx, r.db.DB, asked)
}

func answer(ctx context.Context, db *pebble.DB, q *question) ([]Story, error) {
	s := search{ctx: ctx, db: db, q: q, stories: map[string]*Story{}}
	if err := s.find(q.from); err != nil {
		return nil, err
	}
	if len(s.order) == 0 && q.from > 0 && !q.sure {
		if err := s.find(0); err != nil { // a clock that was set back
			return nil, err
		}
	}
	if err := s.findAgain(); err != nil {
		return nil, err
	}
	if err := s.join(); err != nil {
		return nil, err
	}
	return s.result(), nil
}

// few is how many stories are looked through for a text one by one.
const few = 1000

// answerFew answers a search for a text that is asked of few stories alone, as of
// those of one address, without reading every page.
func answerFew(ctx context.Context, db *pebble.DB, q *question) (list []Story, done bool, err error) {
	if q.text == "" || !slices.ContainsFunc(q.clauses, func(c clause) bool { return len(c.hashes) > 0 }) {
		return nil, false, nil
	}
	wider := *q
	wider.text, wider.tokens, wider.limit = "", nil, few
	list, err = answer(ctx, db, &wider)
	all := len(list) < few
	list = slices.DeleteFunc(list, func(s Story) bool {
		return !q.textIn(&s) && !slices.ContainsFunc(s.Attempts, func(t Try) bool { return q.says(t.Reply) })
	})
	if len(list) >= q.limit {
		return list[:q.limit], true, err
	}
	return list, all, err
}

// idTime is the page number of a minute before the time that an id holds, 0 where
// it holds none.
func idTime(id string) uint64 {
	if len(id) != len(message.NewID(time.Time{})) {
		return 0
	}
	digits := "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	var n uint64
	for i := range 8 {
		n = n*62 + uint64(strings.IndexByte(digits, id[i]))
	}
	const most = uint64(1) << 62 / uint64(time.Millisecond)
	if n > most {
		return 0
	}
	at := n * uint64(time.Millisecond)
	return at - min(at, uint64(time.Minute))
}

// search is one question on its way.
type search struct {
	ctx     context.Context
	db      *pebble.DB
	q       *question
	stories map[string]*Story
	order   []string // their ids, newest first
	oldest  time.Time
	told    later
	low     []byte // scratch: a record in lower case
}

// later is what is known of stories that are still to come from what was told
// after them.
type later struct {
	text, policy map[string]struct{} // messages, and sessions of what belongs to none
	hashes       []uint32            // of those in policy
	sorted       bool
	sessions     []uint32 // of the sessions in either
}

// maxLater bounds each map of later.
const maxLater = 1 << 20

func (l *later) add(m *map[string]struct{}, id, session string) {
	kind := byte(byMessage)
	if id == "" {
		id, kind = session, bySession
		l.sessions = append(l.sessions, hash(bySession, session))
	}
	if *m == nil {
		*m = map[string]struct{}{}
	}
	if _, ok := (*m)[id]; ok || len(*m) >= maxLater {
		return
	}
	(*m)[id] = struct{}{}
	if m == &l.policy {
		l.hashes, l.sorted = append(l.hashes, hash(kind, id)), false
	}
}

func (l *later) indexed(index []byte) bool {
	if !l.sorted {
		slices.Sort(l.hashes)
		l.sorted = true
	}
	return indexHas(index, l.hashes)
}

func has(m map[string]struct{}, s *Story) bool {
	_, byID := m[s.ID]
	_, bySession := m[s.Session]
	return byID || bySession
}

// find looks for the stories, from the newest page back to from.
func (s *search) find(from uint64) error {
	return s.scan(from, true, s.mayHave, func(n uint64, value []byte) bool {
		var list [][]byte
		records(value, func(record []byte) bool {
			if len(record) > 0 {
				list = append(list, record)
			}
			return true
		})
		if s.q.soft() {
			for _, record := range list {
				s.hear(record)
			}
		}
		if !s.q.until.IsZero() && n > uint64(max(s.q.until.Add(slow).UnixNano(), 0)) {
			return true
		}
		for _, record := range slices.Backward(list) {
			s.see(record)
			if len(s.order) >= s.q.limit {
				return false
			}
		}
		return true
	})
}

// findAgain looks once more for stories of the sessions of which something was
// told: it may have been told before their last message.
func (s *search) findAgain() error {
	if len(s.told.sessions) == 0 || len(s.order) >= s.q.limit {
		return nil
	}
	slices.Sort(s.told.sessions)
	s.told.sessions = slices.Compact(s.told.sessions)
	known := maps.Clone(s.stories)
	return s.scan(s.q.from, true, func(index []byte) bool { return indexHas(index, s.told.sessions) }, func(_ uint64, value []byte) bool {
		records(value, func(record []byte) bool {
			if len(record) > 0 && known[recordID(record)] == nil {
				s.see(record)
			}
			return true
		})
		return len(s.order) < s.q.limit
	})
}

// recordID is the id that a record begins with, "" where it has none.
func recordID(record []byte) string {
	r := reader{b: record[1:]}
	return r.text()
}

// mayHave tells by a page's index whether the page is worth reading.
func (s *search) mayHave(index []byte) bool {
	old := !indexHas(index, marked[:])
	if s.q.text != "" {
		return true // any reply of a delivery may have it
	}
	if s.q.policy != "" {
		switch {
		case old || indexHas(index, []uint32{hash(byPolicy, s.q.policy)}):
			return true // an answer that came later, perhaps
		case !s.told.indexed(index):
			return false
		}
	}
	for i := range s.q.clauses {
		c := &s.q.clauses[i]
		if len(c.hashes) > 0 && !indexHas(index, c.hashes) && !(c.recent && old) {
			return false
		}
	}
	return true
}

// hear takes note of what was told after its story.
func (s *search) hear(record []byte) {
	switch record[0] {
	case lateRecord, lateRecord - 1, attemptRecord:
	default:
		return
	}
	texts := s.q.text != "" && s.holds(record, s.q.tokens...)
	if !texts && (s.q.policy == "" || record[0] == attemptRecord) {
		return
	}
	t, err := decode(record)
	if err != nil {
		return
	}
	if texts && (t.kind == attemptRecord && s.q.says(t.try.Reply) || t.kind == lateRecord && s.q.textAt(&t.step)) {
		s.told.add(&s.told.text, t.id, t.session)
	}
	if s.q.policy != "" && t.kind == lateRecord && s.q.policyAt(&t.step) {
		s.told.add(&s.told.policy, t.id, t.session)
	}
}

// holds tells whether each of words, in lower case, is somewhere in the record.
func (s *search) holds(record []byte, words ...[]byte) bool {
	if len(words) == 0 {
		return true
	}
	s.low = append(s.low[:0], record...)
	for i, c := range s.low {
		if c >= 'A' && c <= 'Z' {
			s.low[i] = c + 'a' - 'A'
		}
	}
	for _, w := range words {
		if !bytes.Contains(s.low, w) {
			return false
		}
	}
	return true
}

// awaited tells whether the text was in what came after the record's story.
func (s *search) awaited(record []byte) bool {
	if len(s.told.text) == 0 {
		return false
	}
	r := reader{b: record[1:]}
	_, byID := s.told.text[string(r.take(r.uint()))]
	_, bySession := s.told.text[string(r.take(r.uint()))]
	return byID || bySession
}

// see keeps the record's story if it is wanted.
func (s *search) see(record []byte) {
	story := record[0] == storyRecord || record[0] == storyRecord-1
	switch {
	case !story && s.q.id == "":
		return
	case story && len(s.q.verdict) > 0 && !bytes.Contains(record, s.q.verdict):
		return
	case story && s.q.text != "" && !s.awaited(record) && !s.holds(record, s.q.tokens...):
		return
	}
	t, err := decode(record)
	if err != nil {
		return
	}
	if !story {
		if at := t.since(); !at.IsZero() && t.id == s.q.id && s.stories[t.id] == nil {
			// Its story may be gone already, or was dropped.
			s.keep(Story{ID: t.id, Session: t.session, Sender: t.sender, Time: at, Recipients: []string{}, Stages: []Step{}, Attempts: []Try{}})
		}
		return
	}
	one := &t.story
	if !s.q.wants(one) ||
		s.q.text != "" && !has(s.told.text, one) && !s.q.textIn(one) ||
		s.q.policy != "" && !has(s.told.policy, one) && !s.q.policyIn(one) {
		return
	}
	s.keep(*one)
}

// since is when what was told of a message apart from its story was; zero for
// other records.
func (t *told) since() time.Time {
	switch t.kind {
	case attemptRecord:
		return t.try.Time
	case lateRecord:
		return t.step.Time
	}
	return time.Time{}
}

func (s *search) keep(one Story) {
	if s.oldest.IsZero() || one.Time.Before(s.oldest) {
		s.oldest = one.Time
	}
	old := s.stories[one.ID]
	switch {
	case old == nil:
		s.order = append(s.order, one.ID)
		s.stories[one.ID] = &one
	case old.Verdict == "":
		*old = one
	default: // two stories of one transaction: the later one counts
		if one.Ended.After(old.Ended) {
			*old, one = one, *old
		}
		old.Stages = append(old.Stages, one.Stages...)
		old.Refusals = append(old.Refusals, one.Refusals...)
		if one.Time.Before(old.Time) {
			old.Time = one.Time
		}
	}
}

// join adds to the stories what was written apart from them.
func (s *search) join() error {
	if len(s.order) == 0 {
		return nil
	}
	var hashes []uint32
	bySessions := map[string][]*Story{}
	for id, one := range s.stories {
		hashes = append(hashes, hash(byMessage, id), hash(byLate, one.Session))
		bySessions[one.Session] = append(bySessions[one.Session], one)
	}
	slices.Sort(hashes)
	from := uint64(max(s.oldest.Add(-time.Minute).UnixNano(), 0))
	return s.scanRecords(hashes, from, func(t told) bool {
		if t.kind == lateRecord && t.id == "" {
			for _, one := range bySessions[t.session] {
				one.addStep(t.step)
			}
			return true
		}
		one := s.stories[t.id]
		if one == nil {
			return true
		}
		switch t.kind {
		case lateRecord:
			one.addStep(t.step)
		case attemptRecord:
			one.addTry(t.try)
		case leftRecord:
			one.Left = &t.time
		}
		return true
	})
}

func (s *Story) addStep(step Step) {
	if len(s.Stages) >= maxJoined {
		s.LeftOut++
		return
	}
	s.Stages = append(s.Stages, step)
}

func (s *Story) addTry(t Try) {
	if len(s.Attempts) >= maxJoined {
		s.LeftOut++
		return
	}
	s.Attempts = append(s.Attempts, t)
	if s.Verdict == "" && !slices.Contains(s.Recipients, t.Recipient) {
		s.Recipients = append(s.Recipients, t.Recipient)
	}
}

func (s *search) result() []Story {
	list := make([]Story, 0, len(s.order))
	for _, id := range s.order {
		one := s.stories[id]
		slices.SortStableFunc(one.Stages, func(a, b Step) int { return a.Time.Compare(b.Time) })
		slices.SortStableFunc(one.Attempts, func(a, b Try) int { return a.Time.Compare(b.Time) })
		list = append(list, *one)
	}
	slices.SortStableFunc(list, func(a, b Story) int { return b.Time.Compare(a.Time) })
	return list[:min(len(list), s.q.limit)]
}

// scanRecords calls f with each record of the pages whose index has one of the
// sorted hashes, the oldest first. Damaged ones are passed over.
func (s *search) scanRecords(hashes []uint32, from uint64, f func(told) bool) error {
	return s.scan(from, false, func(index []byte) bool { return indexHas(index, hashes) }, func(_ uint64, value []byte) bool {
		more := true
		records(value, func(record []byte) bool {
			if t, err := decode(record); err == nil {
				more = f(t)
			}
			return more
		})
		return more
	})
}

// scan calls f with each page whose index choose approves of, the newest first or
// last, until f returns false or nobody waits any more.
func (s *search) scan(from uint64, newestFirst bool, choose func(index []byte) bool, f func(n uint64, value []byte) bool) (err error) {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: pageKey(indexPrefix, from), UpperBound: []byte{indexPrefix + 1}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	step, ok := it.Next, false
	if newestFirst {
		step, ok = it.Prev, it.Last()
	} else {
		ok = it.First()
	}
	for ; ok; ok = step() {
		if err := context.Cause(s.ctx); err != nil {
			return err
		}
		n, valid := pageNumber(it.Key())
		if !valid || !choose(it.Value()) {
			continue
		}
		more, err := s.page(n, f)
		if err != nil || !more {
			return err
		}
	}
	return it.Error()
}

func (s *search) page(n uint64, f func(n uint64, value []byte) bool) (more bool, err error) {
	value, closer, err := s.db.Get(pageKey(pagePrefix, n))
	if errors.Is(err, pebble.ErrNotFound) {
		return true, nil // expired in between
	}
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, closer.Close()) }()
	return f(n, value), nil
}
