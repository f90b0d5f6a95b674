package send

import (
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/queue"
)

// RefusalNotice is a bounce about a message that never came into the queue: one
// that was handed over through the drop directory and is refused now that a
// daemon could look at it. All of m's recipients are told of, with what their
// Last says.
func RefusalNotice(hostname string, m *queue.Message) *Notice {
	now := time.Now()
	r := report{kind: Failure, config: &Config{Hostname: hostname}, about: m, to: m.Sender.Owner(), now: now, id: message.NewID(now)}
	for i := range m.Recipients {
		r.list = append(r.list, i)
	}
	return &Notice{Kind: Failure, About: m, To: m.Sender.Owner(), Body: r.bytes()}
}
