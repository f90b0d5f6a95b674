package console

import (
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/postern-mta/postern/core/queue"
	"github.com/postern-mta/postern/core/record"
	"github.com/postern-mta/postern/hooks"
)

// Status is the daemon's state: the JSON of `postern status --json`.
type Status struct {
	Version     string     `json:"version"`
	PID         int        `json:"pid"`
	Started     time.Time  `json:"started"`
	Generation  int        `json:"generation"` // of the configuration: 1 at the start, one more at each reload
	Connections int        `json:"connections"`
	Listeners   []Listener `json:"listeners"`
	Queue       QueueState `json:"queue"`
	Policies    []Policy   `json:"policies"`
	Warnings    []Warning  `json:"warnings,omitempty"` // what failed that mail does not depend on
	Restart     []string   `json:"restart,omitempty"`  // keys that changed since the start, and take a restart
	Findings    []string   `json:"findings,omitempty"` // warnings that the last reload had
}

// Warning is a part of the daemon that does not work now. Mail goes on without it.
type Warning struct {
	What    string `json:"what"` // "the flight recorder", "the memory of policies"
	Failure string `json:"failure"`
}

// Listener is one [[listen]].
type Listener struct {
	Name     string `json:"name"`
	Protocol string `json:"protocol"`
	Address  string `json:"address"` // with the port that was chosen, where the configuration says 0
}

// QueueState is the queue in numbers. Recipients are those still to be served.
type QueueState struct {
	Messages    int    `json:"messages"`
	Recipients  int    `json:"recipients"`
	Held        int    `json:"held"`
	Quarantined int    `json:"quarantined"`
	Damaged     int    `json:"damaged"`
	Failure     string `json:"failure,omitempty"` // why the queue takes nothing now, and when its store is opened again
}

// Policy is one [[policy]] and how it did since the start of the daemon, whatever was
// reloaded meanwhile: the same numbers as `postern top` and the metrics have.
type Policy struct {
	Name      string            `json:"name"`
	Mode      string            `json:"mode"`
	Calls     uint64            `json:"calls"`
	Failures  uint64            `json:"failures"`
	Decisions map[string]uint64 `json:"decisions,omitempty"` // by verb, those that occurred
}

// Plugin is one plugin process: a line of `postern plugin list --json`.
type Plugin struct {
	Name     string   `json:"name"`
	Path     string   `json:"path"`
	Version  string   `json:"version,omitempty"`
	State    string   `json:"state"` // running, starting, down
	PID      int      `json:"pid,omitempty"`
	Restarts int      `json:"restarts"`
	Stages   []string `json:"stages"`
	Health   string   `json:"health,omitempty"` // "ok", or what it answered to a health check; left out where none runs
	Calls    int      `json:"calls"`            // under way
	MaxCalls int      `json:"max_calls,omitempty"`
	Error    string   `json:"error,omitempty"` // why it is down, or went down last
}

// Policies is a chain's counters as Status shows them.
func Policies(counts []hooks.Count) []Policy {
	list := make([]Policy, 0, len(counts))
	for _, c := range counts {
		p := Policy{Name: c.Name, Mode: c.Mode.String(), Calls: c.Calls, Failures: c.Failures}
		for v, n := range c.Verbs {
			if n > 0 {
				if p.Decisions == nil {
					p.Decisions = map[string]uint64{}
				}
				p.Decisions[hooks.Verb(v).String()] = n
			}
		}
		list = append(list, p)
	}
	return list
}

// complete fills in what the Server knows itself.
func (st Status) complete(q *queue.Queue, r *record.Recorder) Status {
	st.PID = os.Getpid()
	st.Connections = r.Connections()
	t := q.Totals()
	st.Queue = QueueState{Messages: t.Messages, Recipients: t.Recipients, Held: t.Held, Quarantined: t.Quarantined, Damaged: t.Damaged}
	if trouble, ok := q.Trouble(); ok {
		st.Queue.Failure = trouble.String()
	}
	if trouble, ok := r.Trouble(); ok {
		st.Warnings = append(st.Warnings, Warning{"the flight recorder", trouble.String()})
	}
	st.Policies = sinceStart(st.Policies, r.Counts().Policies)
	if st.Listeners == nil {
		st.Listeners = []Listener{}
	}
	if st.Policies == nil {
		st.Policies = []Policy{}
	}
	return st
}

// sinceStart gives the policies of the present configuration what the recorder
// counted, over all stages: a chain counts since the last reload alone.
func sinceStart(list []Policy, counts []record.PolicyCounts) []Policy {
	type key struct {
		name   string
		shadow bool
	}
	sums := map[key]*Policy{}
	for i := range list {
		p := &list[i]
		p.Calls, p.Failures, p.Decisions = 0, 0, nil
		sums[key{p.Name, p.Mode == hooks.Shadow.String()}] = p
	}
	for _, c := range counts {
		p := sums[key{c.Policy, c.Shadow}]
		if p == nil {
			continue // it was taken out of the configuration
		}
		p.Calls += c.Calls
		p.Failures += c.Failures
		for verb, n := range c.Decisions {
			if p.Decisions == nil {
				p.Decisions = map[string]uint64{}
			}
			p.Decisions[verb] += n
		}
	}
	return list
}

// Print writes the state for people.
func (st Status) Print(w io.Writer) {
	now := time.Now()
	fmt.Fprintf(w, "postern %s, process %d, up %s, configuration %d\n", record.Clean(st.Version), st.PID, Age(st.Started, now), st.Generation)
	fmt.Fprintf(w, "connections  %d\n", st.Connections)
	fmt.Fprintf(w, "queue        %d messages for %d recipients, %d held, %d quarantined\n", st.Queue.Messages, st.Queue.Recipients, st.Queue.Held, st.Queue.Quarantined)
	if st.Queue.Damaged > 0 {
		fmt.Fprintf(w, "             %d damaged messages are set aside\n", st.Queue.Damaged)
	}
	if st.Queue.Failure != "" {
		fmt.Fprintf(w, "             FAILED: %s\n", record.Clean(st.Queue.Failure))
	}
	for _, one := range st.Warnings {
		fmt.Fprintf(w, "FAILED       %s; mail goes on: %s\n", one.What, record.Clean(one.Failure))
	}
	if len(st.Restart) > 0 {
		fmt.Fprintf(w, "RESTART      what changed takes effect at the next start: %s\n", strings.Join(st.Restart, ", "))
	}
	for _, l := range st.Listeners {
		fmt.Fprintf(w, "listening    %s (%s) on %s\n", record.Clean(l.Name), record.Clean(l.Protocol), record.Clean(l.Address))
	}
	if len(st.Policies) > 0 {
		fmt.Fprintln(w)
		PrintPolicies(w, st.Policies)
	}
}

// PrintPolicies writes a table of policies.
func PrintPolicies(w io.Writer, list []Policy) {
	t := table(w)
	fmt.Fprintln(t, "POLICY\tMODE\tCALLS\tFAILURES\tDECISIONS")
	for _, p := range list {
		fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%s\n", record.Clean(p.Name), record.Clean(p.Mode), p.Calls, p.Failures, record.Clean(p.decisions()))
	}
	_ = t.Flush() // whoever gave w will meet its error again
}

// decisions is the policy's decisions as one line, without those to pass.
func (p Policy) decisions() string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(p.Decisions)) {
		if name != hooks.Pass.String() {
			parts = append(parts, fmt.Sprintf("%s %d", name, p.Decisions[name]))
		}
	}
	return strings.Join(parts, ", ")
}

// PrintPlugins writes a table of plugins.
func PrintPlugins(w io.Writer, list []Plugin) {
	t := table(w)
	fmt.Fprintln(t, "PLUGIN\tSTATE\tHEALTH\tPROCESS\tRESTARTS\tCALLS\tVERSION\tSTAGES\tPATH")
	for _, p := range list {
		pid, health, calls := "-", "-", "-"
		if p.PID > 0 {
			pid = fmt.Sprint(p.PID)
		}
		switch p.Health {
		case "":
		case "ok":
			health = "ok"
		default:
			health = "bad"
		}
		if p.MaxCalls > 0 {
			calls = fmt.Sprintf("%d of %d", p.Calls, p.MaxCalls)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s\t%s\n", record.Clean(p.Name), record.Clean(p.State), health, pid, p.Restarts, calls,
			record.Clean(p.Version), record.Clean(strings.Join(p.Stages, " ")), record.Clean(p.Path))
		for _, text := range []string{p.Health, p.Error} {
			if text != "" && text != "ok" {
				fmt.Fprintf(t, "\t%s\n", record.Clean(text))
			}
		}
	}
	_ = t.Flush() // whoever gave w will meet its error again
}

func table(w io.Writer) *tabwriter.Writer { return tabwriter.NewWriter(w, 0, 0, 2, ' ', 0) }

// Age is how long ago t was, in one or two units: "3d4h", "12m", "5s"; "-" where
// it never was.
func Age(t, now time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return span(max(now.Sub(t), 0))
}

func span(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d >= day:
		return fmt.Sprintf("%dd%dh", d/day, d%day/time.Hour)
	case d >= time.Hour:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	case d >= time.Minute:
		return fmt.Sprintf("%dm", d/time.Minute)
	}
	return fmt.Sprintf("%ds", d/time.Second)
}
