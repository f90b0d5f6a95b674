package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/postern-mta/postern/hooks"
	"github.com/postern-mta/postern/hooks/lua"
)

// This file is `policy new` and `policy stubs`: what an author begins with.

func policyNew(g *global) *cobra.Command {
	var stages []string
	var dir, about string
	compiled := false
	c := &cobra.Command{
		Use:   "new NAME",
		Short: "Write a new policy and its test",
		Long: `Writes NAME.lua and NAME_test.lua, a policy that works and a test that passes, to
be changed: into --dir, or else the configuration's policy_dir, where
use = "NAME" finds it. With --go it is a plugin in Go: a folder NAME with main.go
and main_test.go. Nothing that is there is overwritten.

Exit status: 0 written, 1 a file is there or can't be written, 2 wrong use.`,
		Example: "  postern policy new badwords --stage headers\n  postern policy new quota --stage mail --stage rcpt --dir site\n  postern policy new checker --go --dir plugins",
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			p, err := newPolicy(args[0], about, stages)
			if err != nil {
				return usageError{err}
			}
			if dir == "" {
				c, err := g.settled()
				if err != nil {
					return err
				}
				if dir = c.Server.PolicyDir; dir == "" || compiled {
					dir = "."
				}
			}
			if compiled {
				return p.writeGo(g.std.out, dir)
			}
			return p.writeLua(g.std.out, dir)
		},
	}
	c.Flags().StringArrayVar(&stages, "stage", []string{"message"}, "a `STAGE` at which it is asked; may be repeated")
	c.Flags().StringVar(&dir, "dir", "", "the `FOLDER` to write into")
	c.Flags().StringVar(&about, "about", "", "one `LINE` that says what it does")
	c.Flags().BoolVar(&compiled, "go", false, "a plugin in Go")
	return c
}

func policyStubs(g *global) *cobra.Command {
	return &cobra.Command{
		Use:   "stubs [DIR]",
		Short: "Write what editors need to complete scripts",
		Long: `Writes DIR/postern.lua, the functions and objects that scripts can use as
annotations of lua-language-server, and DIR/.luarc.json, its settings, unless that
is there. DIR is the folder of the scripts; default: the configuration's policy_dir.
Editors with that language server (VS Code, Neovim, Emacs, Zed …) then complete
names, show what they mean, and mark what is misspelt. Write it again after an
upgrade.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			dir := ""
			if len(args) > 0 {
				dir = args[0]
			} else {
				c, err := g.settled()
				if err != nil {
					return err
				}
				if dir = c.Server.PolicyDir; dir == "" {
					dir = "."
				}
			}
			return writeStubs(g.std.out, dir)
		},
	}
}

const luarc = `{
  "runtime.version": "Lua 5.1",
  "workspace.library": ["."],
  "diagnostics.disable": ["lowercase-global", "undefined-doc-param", "missing-return"]
}
`

func writeStubs(out io.Writer, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var b strings.Builder
	if err := lua.WriteStubs(&b); err != nil {
		return err
	}
	path := filepath.Join(dir, "postern.lua")
	if old, err := os.ReadFile(path); err == nil && !strings.HasPrefix(string(old), "---@meta postern") {
		return fmt.Errorf("%s is there, and not written by this command; name another folder", path)
	}
	if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
		return err
	}
	fmt.Fprintln(out, path)
	rc := filepath.Join(dir, ".luarc.json")
	switch err := writeNew(rc, luarc, 0o644); {
	case errors.Is(err, os.ErrExist):
		fmt.Fprintf(out, "%s is there already: see that its workspace.library has \".\"\n", rc)
	case err != nil:
		return err
	default:
		fmt.Fprintln(out, rc)
	}
	return nil
}

// writeNew makes a file that must not be there yet.
func writeNew(path, text string, mode os.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// beginning is a policy to begin with: it looks for words in what each of its
// stages is about.
type beginning struct {
	name, about string
	stages      []hooks.Stage
}

var policyName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,63}$`)

func newPolicy(name, about string, stages []string) (*beginning, error) {
	if !policyName.MatchString(name) {
		return nil, fmt.Errorf("%q is no name for a policy: write small letters, digits and _, such as bad_words", name)
	}
	if _, stage := hooks.ParseStage(name); stage {
		return nil, fmt.Errorf("%q is the name of a stage; choose another one", name)
	}
	if slices.Contains(takenNames(), name) {
		return nil, fmt.Errorf("%q is a name that scripts have already; choose another one, such as %s_policy", name, name)
	}
	p := &beginning{name: name, about: about}
	if p.about == "" {
		p.about = "Refuses mail with one of our words."
	}
	if strings.ContainsAny(p.about, "\"\\\n\r") {
		return nil, errors.New("--about: write one line without quotes and backslashes")
	}
	for _, word := range stages {
		at, ok := hooks.ParseStage(word)
		if !ok {
			var names []string
			for _, row := range hooks.Stages() {
				names = append(names, row.Name)
			}
			return nil, fmt.Errorf("--stage: there is no stage %q; there are %s", word, strings.Join(names, ", "))
		}
		if !slices.Contains(p.stages, at) {
			p.stages = append(p.stages, at)
		}
	}
	slices.Sort(p.stages)
	return p, nil
}

// takenNames can't name the local that holds a policy: words of the language, and
// what scripts are given. The file postern.lua is what `policy stubs` writes.
func takenNames() []string {
	names := []string{
		"and", "break", "do", "else", "elseif", "end", "false", "for", "function", "goto", "if", "in", "local", "nil", "not", "or", "repeat", "return", "then", "true", "until", "while",
		"tx", "conn", "login", "line", "plan", "try", "notice", "refusal", "word", "text", "listed", "postern",
	}
	for _, e := range lua.Reference() {
		if e.Of == "" {
			names = append(names, e.Name)
		}
	}
	return names
}

// looked is what a stage is about, in Lua and in Go.
type looked struct{ lua, golang string }

func lookedAt(at hooks.Stage) looked {
	switch at {
	case hooks.Connect, hooks.TLS:
		return looked{"conn.host", "ev.Session.Host(ctx)"}
	case hooks.Helo:
		return looked{"conn.helo", "ev.Session.Helo"}
	case hooks.Auth:
		return looked{"login.user", "ev.Login.User"}
	case hooks.Command:
		return looked{"line.argument", "ev.Command.Argument"}
	case hooks.Mail, hooks.Data:
		return looked{"tostring(tx.sender)", "ev.Sender.String()"}
	case hooks.Rcpt:
		return looked{"rcpt.address", "ev.Current.Address.String()"}
	case hooks.Headers, hooks.Message, hooks.Queue:
		return looked{`tx.headers:get("Subject")`, "subject(ev)"}
	}
	return looked{}
}

// refuses tells whether the stage can end in a refusal of mail.
func refuses(at hooks.Stage) bool {
	return at < hooks.Queued && lookedAt(at).lua != "" || at == hooks.Command
}

func (p *beginning) lua() string {
	var b strings.Builder
	judges := slices.ContainsFunc(p.stages, refuses)
	fmt.Fprintf(&b, "-- %s: %s\n--\n", p.name, p.about)
	if judges {
		b.WriteString("-- Settings:\n--   words   what is refused, in any case\n--   text    of the reply\n--\n")
	}
	fmt.Fprintf(&b, "-- Example:\n--   [[policy]]\n--   use   = \"%s\"\n", p.name)
	if judges {
		b.WriteString("--   words = [\"casino\"]\n")
	}
	fmt.Fprintf(&b, "\nlocal %s = policy {\n  about    = \"%s\",\n", p.name, p.about)
	if judges {
		b.WriteString(`  settings = {
    words = list(string) {}              : about "what is refused, in any case",
    text  = string "This is not welcome" : about "of the reply",
  },
`)
	}
	if slices.Contains(p.stages, hooks.Tick) {
		b.WriteString("  every    = \"1m\",\n")
	}
	b.WriteString("}\n")
	if judges {
		fmt.Fprintf(&b, `
-- listed is the first of our words that a text holds.
local function listed(text)
  text = (text or ""):lower()
  for _, word in ipairs(%s.words) do
    if text:find(word:lower(), 1, true) then return word end
  end
end
`, p.name)
	}
	for _, at := range p.stages {
		var names []string
		for _, one := range lua.Arguments(at) {
			names = append(names, one.Name)
		}
		fmt.Fprintf(&b, "\n-- %s.\nfunction %s.%s(%s)\n", at.Row().When, p.name, at, strings.Join(names, ", "))
		if refuses(at) {
			fmt.Fprintf(&b, "  local word = listed(%s)\n  if word then return reject(\"%d.7.1\", \"%%s: %%s\", %s.text, word) end\n", lookedAt(at).lua, 5, p.name)
		} else {
			fmt.Fprintf(&b, "  log.info(\"%s: %s\")\n", p.name, at)
		}
		b.WriteString("end\n")
	}
	fmt.Fprintf(&b, "\nreturn %s\n", p.name)
	return b.String()
}

func (p *beginning) luaTest() string {
	var b strings.Builder
	fmt.Fprintf(&b, `-- postern test %s_test.lua

local function send(t, facts)
  local s = t:connect { ip = "192.0.2.7" }
  s:helo(facts.helo or "client.example.org")
  local reply = s:mail(facts.sender or "somebody@example.org")
  if reply.code ~= 250 then return reply end
  reply = s:rcpt(facts.recipient or "you@example.net")
  if reply.code ~= 250 then return reply end
  return s:data("Subject: " .. (facts.subject or "hello") .. "\n\nHello.\n")
end

test("honest mail passes", function(t)
  t:policy("%s", { words = { "casino" } })
  expect(send(t, {})):accepts()
end)
`, p.name, p.name)
	for _, at := range p.stages {
		fact := map[hooks.Stage]string{
			hooks.Mail: `sender = "casino@example.org"`, hooks.Rcpt: `recipient = "casino@example.net"`,
			hooks.Data: `sender = "casino@example.org"`, hooks.Headers: `subject = "The Casino"`, hooks.Message: `subject = "The Casino"`, hooks.Queue: `subject = "The Casino"`,
		}[at]
		if fact == "" {
			continue
		}
		fmt.Fprintf(&b, `
test("a word is refused at %s", function(t)
  t:policy("%s", { words = { "casino" }, text = "Not here" })
  expect(send(t, { %s })):rejects("5.7.1", "Not here: casino")
end)
`, at, p.name, fact)
	}
	return b.String()
}

func (p *beginning) writeLua(out io.Writer, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	script, test := filepath.Join(dir, p.name+".lua"), filepath.Join(dir, p.name+"_test.lua")
	if err := writeAll(out, [][2]string{{script, p.lua()}, {test, p.luaTest()}}); err != nil {
		return err
	}
	fmt.Fprintf(out, `
Next:
  postern test %s
  add to postern.toml:   [[policy]]
                         use   = "%s"
                         words = ["casino"]
  postern check && postern reload
`, test, p.name)
	return nil
}

// writeAll makes files of which none may be there yet.
func writeAll(out io.Writer, files [][2]string) error {
	for _, f := range files {
		if _, err := os.Lstat(f[0]); err == nil {
			return fmt.Errorf("%s is there already; nothing was written", f[0])
		}
	}
	for _, f := range files {
		if err := writeNew(f[0], f[1], 0o644); err != nil {
			return err
		}
		fmt.Fprintln(out, f[0])
	}
	return nil
}

func (p *beginning) golang() string {
	var b strings.Builder
	about := func(at hooks.Stage) bool { return strings.HasPrefix(lookedAt(at).golang, "subject(") }
	fmt.Fprintf(&b, `// Command %s is a plugin of Postern. %s
package main

import (
	"context"
	"log/slog"
	"strings"

	"github.com/postern-mta/postern/hooks/sdk"
)

type %s struct {
	Words []string %[4]spostern:"words" doc:"what is refused, in any case"%[4]s
	Text  string   %[4]spostern:"text" doc:"of the reply" default:"This is not welcome"%[4]s
}

// listed is the first of our words that a text holds.
func (p *%[3]s) listed(text string) string {
	for _, word := range p.Words {
		if strings.Contains(strings.ToLower(text), strings.ToLower(word)) {
			return word
		}
	}
	return ""
}
`, p.name, p.about, p.name, "`")
	if slices.ContainsFunc(p.stages, about) {
		b.WriteString(`
func subject(ev *sdk.Event) string {
	text, _ := ev.Header.Get("Subject")
	return text
}
`)
	}
	logs := false
	for _, at := range p.stages {
		method := methodOf(at)
		fmt.Fprintf(&b, "\n// %s is asked: %s.\nfunc (p *%s) %s(ctx context.Context, ev *sdk.Event) (sdk.Decision, error) {\n", method, at.Row().When, p.name, method)
		if refuses(at) {
			fmt.Fprintf(&b, "\tif word := p.listed(%s); word != \"\" {\n\t\treturn sdk.Reject(\"5.7.1\", \"%%s: %%s\", p.Text, word), nil\n\t}\n", lookedAt(at).golang)
		} else {
			logs = true
			fmt.Fprintf(&b, "\tslog.InfoContext(ctx, %q, \"id\", ev.Subject())\n", at.String())
		}
		b.WriteString("\treturn sdk.Pass(), nil\n}\n")
	}
	more := ""
	if slices.Contains(p.stages, hooks.Tick) {
		more = ", Every: time.Minute"
	}
	fmt.Fprintf(&b, `
func main() {
	sdk.Serve(sdk.Policy{
		Name: "%s", Version: "1.0", About: "%s",
		Handler: &%s{}, Access: sdk.Headers()%s,
	})
}
`, p.name, p.about, p.name, more)
	text := b.String()
	if !logs {
		text = strings.Replace(text, "\t\"log/slog\"\n", "", 1)
	}
	if more != "" {
		text = strings.Replace(text, "\t\"strings\"\n", "\t\"strings\"\n\t\"time\"\n", 1)
	}
	return text
}

// methodOf is the name of a stage's method in the SDK.
func methodOf(at hooks.Stage) string {
	switch at {
	case hooks.TLS, hooks.DSN:
		return strings.ToUpper(at.String())
	}
	return strings.ToUpper(at.String()[:1]) + at.String()[1:]
}

func (p *beginning) golangTest() string {
	return fmt.Sprintf(`package main

import (
	"testing"

	"github.com/postern-mta/postern/hooks"
	"github.com/postern-mta/postern/hooks/sdk"
)

// The settings are taken, and the policy is asked where it wants to be.
func Test%[2]s(t *testing.T) {
	h, err := sdk.Policy{Name: "%[1]s", Handler: &%[1]s{}, Access: sdk.Headers()}.Local(map[string]any{"words": []any{"casino"}})
	if err != nil {
		t.Fatal(err)
	}
	if got := h.Stages(); len(got) != %[3]d || got[0] != hooks.%[4]s {
		t.Errorf("asked at %%v", got)
	}
	if word := (&%[1]s{Words: []string{"casino"}}).listed("The Casino"); word != "casino" {
		t.Errorf("found %%q", word)
	}
}
`, p.name, strings.ToUpper(p.name[:1])+p.name[1:], len(p.stages), methodOf(p.stages[0]))
}

func (p *beginning) writeGo(out io.Writer, dir string) error {
	dir = filepath.Join(dir, p.name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := writeAll(out, [][2]string{{filepath.Join(dir, "main.go"), p.golang()}, {filepath.Join(dir, "main_test.go"), p.golangTest()}}); err != nil {
		return err
	}
	fmt.Fprintf(out, `
Next, in that folder (outside of Postern's own source: go mod init, go get github.com/postern-mta/postern):
  go test .
  go build -o PLUGIN_DIR/%s .
  postern plugin check PLUGIN_DIR/%s
  add to postern.toml:   [[policy]]
                         use   = "%s"
                         words = ["casino"]
`, p.name, p.name, p.name)
	return nil
}
