// Command docgen writes the documents that come from the code: docs/stages.md
// from the table of stages, docs/config.md from the schema of the configuration,
// docs/lua-reference.md from the table of what scripts can use,
// docs/plugin-protocol.md from the comments of policy.proto.
// `make generate` runs it in the repository's root; a test in t fails where a
// document is behind its source.
package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/postern-mta/postern/core/config"
	"github.com/postern-mta/postern/hooks/lua"
)

const stagesHead = `# Stages, decisions, edits

Generated from the table in hooks/stage.go by ` + "`make generate`" + `.

At each stage the policies are asked in the order of their ` + "`[[policy]]`" + ` entries;
the first decision that is not ` + "`pass`" + ` ends the stage. Where nobody decides, the
default of the stage applies. A policy that fails (an error, a timeout, a decision
that the stage does not allow) defers with 451 4.3.0, or passes where it has
` + "`on_failure = \"pass\"`" + `; its edits are not made.

| decision | effect |
|---|---|
| ` + "`pass`" + ` | the next policy is asked |
| ` + "`accept`" + ` | the stage succeeds, nobody else is asked; at rcpt the recipient is taken; at deny the refusal is cancelled |
| ` + "`reject`" + ` | a 5xx reply; at delivery stages: give up |
| ` + "`defer`" + ` | a 4xx reply; at deferred and bounced: try again, after the time given |
| ` + "`discard`" + ` | 250 to the client, and the message (at rcpt: that recipient) is thrown away |
| ` + "`quarantine`" + ` | 250 to the client, the message is kept and not sent on |
| ` + "`hold`" + ` | stays in the queue, not tried until an operator releases it |
| ` + "`disconnect`" + ` | 421, and the connection is closed |

`

const configHead = `# Configuration

Generated from the schema in core/config by ` + "`make generate`" + `.

One TOML file, and beside it conf.d/*.toml in the order of their names.
` + "`postern check -c FILE`" + ` tells every mistake at once, each as FILE:LINE: key: what is
wrong; what to write. The commands find the file by -c, then $POSTERN_CONFIG,
./postern.toml, /etc/postern/postern.toml; without any they use the
[built-in default](../etc/postern.toml). Relative paths start at the folder of the file. A
key of a later version is refused as "not available in this version", never read
and ignored. SIGHUP or ` + "`postern reload`" + ` reads it again; what needs a restart (sockets,
data_dir, user, log, recorder, dns) is named in the log.

A duration is a number with a unit (s, m, h, d, w: 90s, 1h30m, 7d), a size bytes or
KiB, MiB, GiB, a rate a number per unit (60/min), a network a CIDR or an address.

`

const luaHead = `# Lua reference

Generated from the table in hooks/lua by ` + "`make generate`" + `. How a policy is written
is told in [lua.md](lua.md).

A type with ? may be nil, and a parameter with ? may be left out. A function whose
second result is ` + "`error?`" + ` gives nil and an error where it has no answer; nothing of
that kind is raised. What a line gives stands behind ` + "`-->`" + `; every example is run as
a test. An argument of a wrong type and a member that there is not are errors that
name the line.

`

func write(name string, head string, body func(io.Writer) error) error {
	var b bytes.Buffer
	b.WriteString(head)
	if err := body(&b); err != nil {
		return err
	}
	return os.WriteFile(name, b.Bytes(), 0o644)
}

func main() {
	dir := "docs"
	if len(os.Args) > 1 {
		dir = os.Args[1]
	}
	for _, err := range []error{
		write(filepath.Join(dir, "stages.md"), stagesHead, writeStages),
		write(filepath.Join(dir, "config.md"), configHead, config.WriteReference),
		write(filepath.Join(dir, "lua-reference.md"), luaHead, lua.WriteReference),
		write(filepath.Join(dir, "plugin-protocol.md"), protocolHead, writeProtocol),
	} {
		if err != nil {
			fmt.Fprintln(os.Stderr, "docgen:", err)
			os.Exit(1)
		}
	}
}
