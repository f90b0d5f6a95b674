package send

import (
	"time"
)

// Channels, as in qmail: deliveries on this host do not take the places of
// those to others.
const (
	local = iota
	remote
)

// channel is one of the two; all of it is guarded by Sender.mu.
type channel struct {
	name    int
	limit   int
	running int
	line    fifo[*destination] // those with waiting jobs, in the order of their turns
}

// channelOf is where attempts of the scheme count.
func channelOf(scheme string) int {
	if scheme == SchemeLocal || scheme == SchemePipe || scheme == SchemeDiscard {
		return local
	}
	return remote
}

// destination finds or makes one; s.mu is held.
func (s *Sender) destination(k key, h Way) *destination {
	d := s.dests[k]
	if d == nil {
		c := &s.channels[channelOf(h.Scheme)]
		c.name = channelOf(h.Scheme)
		d = &destination{key: k, hop: h, channel: c, used: s.o.Now()}
		d.configure(s.conf.Load())
		s.dests[k] = d
	}
	return d
}

// enqueue gives d a place in its channel's line where it has jobs waiting.
func (s *Sender) enqueue(d *destination) {
	if d.ready > 0 && !d.lined {
		d.lined = true
		d.channel.line.push(d)
	}
}

// dispatch starts what can be started; s.mu is held. Each destination in line
// gets one attempt, then it is the next one's turn.
func (s *Sender) dispatch(now time.Time) {
	if !s.active() {
		return
	}
	for i := range s.channels {
		c := &s.channels[i]
		for c.running < c.limit && !c.line.empty() {
			d := c.line.pop()
			d.lined = false
			ok, wait := d.may(now)
			if !ok {
				if wait > 0 {
					d.wakeAt = now.Add(wait)
					s.waiting[d] = struct{}{}
					s.kick()
				}
				continue // who ends an attempt, or the time, brings it back into line
			}
			if j := d.pop(); j != nil {
				s.start(j)
			}
			s.enqueue(d)
		}
	}
}

// start runs an attempt; s.mu is held.
func (s *Sender) start(j *job) {
	j.e.removeJob(j)
	j.d.running++
	j.d.channel.running++
	s.tasks.Go(func() { s.attempt(j) })
}

// ended gives the attempt's place back and takes in how it went. A destination
// that turns out to be down keeps no message in memory.
func (s *Sender) ended(j *job, outcomes []Outcome) {
	now := s.o.Now()
	var parked []*job
	s.mu.Lock()
	d := j.d
	d.running--
	d.channel.running--
	if s.running && outcomes != nil {
		unreached, down := d.learn(now, outcomes)
		if unreached {
			s.leaveWaiting(d, j.e.id, now.Add(1)) // this attempt was not after it
		} else {
			s.wakeWaiting(d)
		}
		if down {
			parked = []*job{}
			for j := d.pop(); j != nil; j = d.pop() {
				j.e.removeJob(j)
				s.leaveWaiting(d, j.e.id, now)
				parked = append(parked, j)
			}
		}
	}
	if parked != nil {
		for !d.queue.empty() { // they are found again, and put back too
			delete(s.outside, d.queue.pop())
		}
		s.more, s.rewind = true, true
		s.kick()
	}
	next := park{until: d.restTill, reply: d.notTried()}
	for _, j := range parked {
		s.tasks.Go(func() { s.parkJob(j, next) })
	}
	s.enqueue(d)
	s.dispatch(now)
	s.feed(d)
	s.mu.Unlock()
}

// fill is how many jobs a destination may have ready.
func (s *Sender) fill() int { return max(s.o.Window/readyShare, 1) }

// feed has Run load some of the messages that wait on disk for d, when its ready
// list runs low; s.mu is held.
func (s *Sender) feed(d *destination) {
	if !d.eager && !d.queue.empty() && d.ready <= s.fill()/2 {
		d.eager = true
		s.hungry = append(s.hungry, d)
		s.kick()
	}
}

// removeJob takes j off the list of waiting jobs; s.mu is held.
func (e *entry) removeJob(j *job) {
	for i := range e.jobs {
		if e.jobs[i] == j {
			last := len(e.jobs) - 1
			e.jobs[i], e.jobs[last] = e.jobs[last], nil
			e.jobs = e.jobs[:last]
			return
		}
	}
}

// awaken puts destinations whose time has come back into line, forgets idle
// ones, and returns when the next one wakes up.
func (s *Sender) awaken(now time.Time) (next time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for d := range s.waiting {
		if d.wakeAt.After(now) {
			if next.IsZero() || d.wakeAt.Before(next) {
				next = d.wakeAt
			}
			continue
		}
		delete(s.waiting, d)
		d.wakeAt = time.Time{}
		s.enqueue(d)
	}
	if now.Sub(s.swept) > idleLife {
		s.swept = now
		for k, d := range s.dests {
			if d.forgettable(now) {
				s.left -= len(d.left)
				delete(s.dests, k)
			}
		}
	}
	s.dispatch(now)
	for d := range s.waiting { // those that dispatch just added
		if next.IsZero() || d.wakeAt.Before(next) {
			next = d.wakeAt
		}
	}
	return next
}
