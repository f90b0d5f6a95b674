package config

import (
	"os"
	"slices"
	"strings"
	"testing"
)

func TestFilesOfSecrets(t *testing.T) {
	dir := write(t, map[string]string{
		"postern.toml": "[srs]\nsecret_file = \"srs\"\n[batv]\ndomain = [\"a.example\"]\nsecret_file = \"batv\"\n",
		"srs":          "# ours\n\nfirst\nolder one\n",
		"batv":         "1 new\n0 old one\n",
	})
	for _, name := range []string{"srs", "batv"} {
		if err := os.Chmod(name, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, problems := Load("postern.toml", Options{})
	if len(problems) != 0 {
		t.Fatalf("%v", problems)
	}
	if !slices.Equal(c.SRS.Secrets, []string{"first", "older one"}) || !slices.Equal(c.BATV.Keys, []BATVKey{{1, "new"}, {0, "old one"}}) {
		t.Errorf("%q, %v", c.SRS.Secrets, c.BATV.Keys)
	}
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("srs", "# nothing\n")
	write("batv", "0 hush\n10 hush\n0 hush\n1\n")
	_, problems = Load("postern.toml", Options{})
	want := []string{
		"DIR/batv:2: batv.secret_file: is no key; write its number, 0 to 9, a space, and its secret",
		"DIR/batv:3: batv.secret_file: the number 0 stands twice; write another",
		"DIR/batv:4: batv.secret_file: is no key; write its number, 0 to 9, a space, and its secret",
		"postern.toml:2: srs.secret_file: DIR/srs holds no secret; write one into it, such as 32 random letters",
	}
	if got := lines(problems, dir); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
