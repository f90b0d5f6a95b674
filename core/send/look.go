package send

import (
	"cmp"
	"slices"
	"time"

	"github.com/postern-mta/postern/core/message"
)

// maxLooked bounds how many destinations one look visits: the scheduler waits as
// long as it lasts, well under a millisecond.
const maxLooked = 10_000

// View is how one destination does, as the scheduler sees it. What waits on disk
// for its time is not known here.
type View struct {
	Name     string // the next hop as written, "local", or the domain where the way is mx
	Local    bool   // it counts in the channel local
	Ready    int    // attempts that could start
	Outside  int    // due messages on disk that wait for their turn
	InFlight int    // attempts under way
	Window   int    // attempts that may be under way at once, now
	Limit    int    // the most that Window may be
	Paced    bool   // its rate holds it back now

	Failures int           // attempts in a row that reached nobody
	Rest     time.Time     // nothing is tried before this; zero: it is not down
	Last     message.Reply // why it is down, or was last
}

// Busy tells whether there is anything to see: work, or trouble.
func (v *View) Busy() bool {
	return v.Ready > 0 || v.Outside > 0 || v.InFlight > 0 || v.Failures > 0 || !v.Rest.IsZero()
}

// Channels is how many attempts are under way, and may be, on this host and to others.
type Channels struct {
	Local       int `json:"local"`
	LocalLimit  int `json:"local_limit"`
	Remote      int `json:"remote"`
	RemoteLimit int `json:"remote_limit"`
}

// Look tells how destinations do: the at most most busiest ones, those of one name
// as one, and how many there are. It keeps the scheduler waiting for no longer than
// it takes to visit ten thousand.
func (s *Sender) Look(most int) (list []View, all int, c Channels) {
	now := s.o.Now()
	byName := map[string]int{}
	s.mu.Lock()
	all = len(s.dests)
	c = Channels{
		Local: s.channels[local].running, LocalLimit: s.channels[local].limit,
		Remote: s.channels[remote].running, RemoteLimit: s.channels[remote].limit,
	}
	visited := 0
	for _, d := range s.dests {
		if visited++; visited > maxLooked {
			break
		}
		v := d.view(now)
		if i, known := byName[v.Name]; known {
			list[i].join(&v)
			continue
		}
		byName[v.Name] = len(list)
		list = append(list, v)
	}
	s.mu.Unlock()
	slices.SortFunc(list, func(a, b View) int {
		return cmp.Or(compareBool(b.Busy(), a.Busy()), cmp.Compare(b.Ready+b.Outside+b.InFlight, a.Ready+a.Outside+a.InFlight), cmp.Compare(a.Name, b.Name))
	})
	return list[:min(len(list), most)], all, c
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// view is the destination as Look tells; Sender.mu is held.
func (d *destination) view(now time.Time) View {
	v := View{
		Name: d.key.name, Local: d.channel.name == local,
		Ready: d.ready, Outside: len(d.queue.items) - d.queue.head, InFlight: d.running, Window: min(d.window, d.limit), Limit: d.limit,
		Failures: d.failures, Last: d.last,
	}
	if d.resting(now) {
		v.Rest = d.restTill
	}
	v.Paced = d.ready > 0 && d.wakeAt.After(now) && v.Rest.IsZero()
	return v
}

// join adds another destination of the same name: one that differs in TLS, login or
// source address.
func (v *View) join(o *View) {
	v.Ready += o.Ready
	v.Outside += o.Outside
	v.InFlight += o.InFlight
	v.Window += o.Window
	v.Limit += o.Limit
	v.Paced = v.Paced || o.Paced
	v.Failures = max(v.Failures, o.Failures)
	if o.Rest.After(v.Rest) {
		v.Rest, v.Last = o.Rest, o.Last
	}
	if v.Last.IsZero() {
		v.Last = o.Last
	}
}
