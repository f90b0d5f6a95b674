package message

import (
	"bytes"
	"cmp"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// corpus is a folder of public samples; the test is skipped where it is absent.
func corpus(t testing.TB, folder string) string {
	t.Helper()
	dir := filepath.Join(cmp.Or(os.Getenv("POSTERN_CORPUS"), filepath.Join("..", "..", "..", "shared", "corpus")), folder)
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("no samples: %v", err)
	}
	return dir
}

type sampleMessage struct {
	Parts []struct {
		Body    json.RawMessage `json:"body"`
		OffBody int64           `json:"offset_body"`
		OffEnd  int64           `json:"offset_end"`
	} `json:"parts"`
}

// otherView are samples that the other parser sees otherwise: it lets an inner
// multipart swallow the delimiters of the one around it, takes a longer line for a
// delimiter, or the file mixes its line ends.
var otherView = []string{
	"malformed/001", "malformed/004", "malformed/007", "malformed/009", "malformed/011", "malformed/012", "malformed/016", "malformed/018", "malformed/019", "malformed/020", "malformed/021", "malformed/022",
	"thirdparty/001", "thirdparty/003", "thirdparty/005", "thirdparty/015",
}

// Another parser's view of the same messages: its leaves are ours, byte for byte.
func TestCorpusStructure(t *testing.T) {
	files, _ := filepath.Glob(filepath.Join(corpus(t, "mime"), "stalwart", "resources", "eml", "*", "*.eml"))
	leaves, missing := 0, 0
	for _, file := range files {
		mail, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		kind := ".json"
		if bytes.Contains(mail, []byte("\r\n")) {
			kind = ".crlf.json"
		}
		spec, err := os.ReadFile(strings.TrimSuffix(file, ".eml") + kind)
		if err != nil {
			t.Fatal(err)
		}
		var want sampleMessage
		if err := json.Unmarshal(spec, &want); err != nil {
			t.Fatal(err)
		}
		m, err := ParseMIME(Bytes(mail))
		if err != nil {
			t.Fatal(err)
		}
		ours := map[[2]int64]bool{}
		for p := range m.Parts() {
			ours[[2]int64{p.From, p.End}] = true
		}
		for _, p := range want.Parts {
			if bytes.HasPrefix(p.Body, []byte(`{"Multipart"`)) || bytes.Contains(p.Body[:min(20, len(p.Body))], []byte("Multipart")) {
				continue
			}
			leaves++
			name := filepath.Base(filepath.Dir(file)) + "/" + strings.TrimSuffix(filepath.Base(file), ".eml")
			if !ours[[2]int64{p.OffBody, p.OffEnd}] && !slices.Contains(otherView, name) {
				missing++
				t.Logf("%s: no leaf from %d to %d in\n%s", name, p.OffBody, p.OffEnd, shapeOffsets(m))
			}
		}
	}
	t.Logf("%d files, %d leaves, %d not found", len(files), leaves, missing)
	if len(files) == 0 || missing > 0 {
		t.Error("see above")
	}
}

func shapeOffsets(m *MIME) string {
	var b strings.Builder
	for p := range m.Parts() {
		b.WriteString(strings.Repeat(" ", p.Depth) + p.Type + " " + p.Fault + " ")
		b.WriteString(strings.TrimSpace(string(must(json.Marshal([]int64{p.Start, p.From, p.End})))) + "\n")
	}
	return b.String()
}

func must(b []byte, _ error) []byte { return b }

// Every sample is walked, read, searched and given a footer, without an error.
func TestCorpusIsReadable(t *testing.T) {
	n := 0
	err := filepath.WalkDir(corpus(t, "."), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasSuffix(path, ".json") {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil || len(b) > 4<<20 {
			return err
		}
		n++
		checkMail(t, []byte(wireLines(string(b)))) // as it would have come by SMTP
		return nil
	})
	if err != nil || n < 100 {
		t.Errorf("%d files, %v", n, err)
	}
}

// checkMail holds what is true for every input.
func checkMail(t testing.TB, b []byte) {
	t.Helper()
	m, err := ParseMIME(Bytes(b))
	if err != nil {
		t.Fatal(err)
	}
	if m.Len() > maxMIMEParts || m.Root.End != int64(len(b)) || m.Root.Start != 0 {
		t.Fatalf("%d parts, root from %d to %d of %d", m.Len(), m.Root.Start, m.Root.End, len(b))
	}
	for p := range m.Parts() {
		last := p.From
		if p.Start > p.From || p.From > p.End || p.Depth >= maxMIMEDepth || p.Parent != nil && p.Decoded == p.Parent.Decoded && !p.Parent.Encoded() && p.End > p.Parent.End {
			t.Fatalf("%s from %d, %d to %d", p.Path, p.Start, p.From, p.End)
		}
		if p.Encoded() {
			last = 0
		}
		for _, c := range p.Children {
			if c.Start < last {
				t.Fatalf("%s begins at %d, before %d", c.Path, c.Start, last)
			}
			last = c.End
		}
		if len(p.Children) > 0 {
			continue
		}
		text, err := io.ReadAll(p.Text())
		if err != nil {
			t.Fatal(err)
		}
		if len(text) > 4*len(b)+16 {
			t.Fatalf("%d bytes of text in a message of %d", len(text), len(b))
		}
		if strings.HasPrefix(p.Type, "text/") {
			if _, _, err := RenderHTML(bytes.NewReader(text), 1<<20); err != nil {
				t.Fatal(err)
			}
		}
	}
	if list, _, err := m.URLs(); err != nil || len(list) > maxURLs {
		t.Fatalf("%d addresses, %v", len(list), err)
	}
	for _, top := range []bool{false, true} {
		checkFooter(t, b, m, Footer{Text: "Fußzeile 0x5f3759df", Top: top})
	}
}

// checkFooter adds a footer and holds what must be true of the result: the same
// parts with the same content, and the footer in addition.
func checkFooter(t testing.TB, b []byte, m *MIME, f Footer) {
	t.Helper()
	start, err := ContentStart(Bytes(b))
	if err != nil {
		t.Fatal(err)
	}
	n, ok := HeaderLen(b)
	if !ok || start == 0 {
		n = int(start)
	}
	h := ParseHeader(bytes.Clone(b[:n]))
	content, done, err := f.Add(h, Bytes(b), start)
	if err != nil {
		t.Fatal(err)
	}
	if content == nil {
		if !strings.HasPrefix(done, "left alone: ") {
			t.Fatalf("no content, and %q", done)
		}
		return
	}
	if content.Size() > 4*int64(len(b))+8192 {
		t.Fatalf("a message of %d bytes became one of %d", len(b), content.Size())
	}
	out := append(h.Section(), readBody(t, content)...)
	after, err := ParseMIME(Bytes(out))
	if err != nil {
		t.Fatal(err)
	}
	extra := 0
	switch {
	case strings.HasPrefix(done, "as a part of a new multipart"):
		extra = 2
	case strings.HasPrefix(done, "as a part"):
		extra = 1
	}
	if start > 0 && after.Len() != m.Len()+extra && m.Len()+extra <= maxMIMEParts && after.Truncated == "" {
		t.Fatalf("%s: %d parts became %d:\n%s\n--- became\n%s", done, m.Len(), after.Len(), b, out)
	}
	found := 0
	for p := range after.Parts() {
		if len(p.Children) > 0 || !strings.HasPrefix(p.Type, "text/") {
			continue
		}
		text, err := io.ReadAll(p.Text())
		if err != nil {
			t.Fatal(err)
		}
		if s := string(text); strings.Contains(s, "Fußzeile 0x5f3759df") || strings.Contains(s, "Fu&#223;zeile 0x5f3759df") {
			found++
		}
	}
	if found == 0 && start < int64(len(b)) {
		t.Fatalf("%s: the footer is not to be found:\n%q\nbecame\n%q", done, b, out)
	}
}
