// Command waiter is a plugin that says which version judged a message, and keeps
// one whose subject is "slow" waiting for a file.
package main

import (
	"context"
	"os"
	"os/user"
	"time"

	"github.com/postern-mta/postern/hooks/sdk"
)

// version is set by the linker.
var version = "0"

type waiter struct {
	Begun string `postern:"begun" doc:"file that is made when the wait begins"`
	Until string `postern:"until" doc:"file that ends the wait"`
	Sick  bool   `postern:"sick" doc:"fails its health check"`
}

func (w *waiter) Healthy(context.Context) error {
	if w.Sick {
		return os.ErrDeadlineExceeded
	}
	return nil
}

func (w *waiter) Message(ctx context.Context, ev *sdk.Event) (sdk.Decision, error) {
	if subject, _ := ev.Header.Get("Subject"); subject == "slow" {
		if err := os.WriteFile(w.Begun, nil, 0o644); err != nil {
			return sdk.Pass(), err
		}
		for tick := time.NewTicker(20 * time.Millisecond); ; {
			if _, err := os.Stat(w.Until); err == nil {
				break
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return sdk.Pass(), ctx.Err()
			}
		}
	}
	ev.Append("X-Waiter", version)
	if me, err := user.Current(); err == nil {
		ev.Append("X-Account", me.Username)
	}
	return sdk.Pass(), nil
}

func main() {
	sdk.Serve(sdk.Policy{Name: "waiter", Version: version, About: "Says who judged.", Handler: &waiter{}, Access: sdk.Whole()})
}
