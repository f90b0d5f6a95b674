package send

import (
	"maps"
	"slices"
	"time"
)

const (
	// maxLeft bounds the messages of which is known in memory that a destination
	// which is down keeps them waiting. What is beyond it, or was before a restart,
	// is tried as its schedule says.
	maxLeft = 100_000
	// leftLife is how long they are remembered where nothing is tried there.
	leftLife = 24 * time.Hour
)

// leaveWaiting notes that the message waits because d is down; s.mu is held.
func (s *Sender) leaveWaiting(d *destination, id string, now time.Time) {
	if _, known := d.left[id]; !known {
		if s.left >= maxLeft {
			return
		}
		s.left++
	}
	if d.left == nil {
		d.left = map[string]time.Time{}
	}
	d.left[id] = now
}

// wakeWaiting has everything tried that waited for d: somebody answers there again.
// Each has a schedule by its own age, by which the last would come an hour later.
// s.mu is held.
func (s *Sender) wakeWaiting(d *destination) {
	if len(d.left) == 0 {
		return
	}
	for _, id := range slices.Sorted(maps.Keys(d.left)) { // in the order of their coming
		s.asked = append(s.asked, asked{id, every, d.left[id]})
	}
	s.left -= len(d.left)
	d.left = nil
	s.kick()
}
