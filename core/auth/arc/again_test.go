package arc

import (
	"io"
	"strings"
	"testing"
)

// TestAgain: another form of a message that was sealed gets a seal of its own, with what
// was found out as it stood.
func TestAgain(t *testing.T) {
	v, _ := verifier(t)
	for _, before := range []int{0, 1, 3} {
		m := letter
		for n := 1; n <= before; n++ {
			m = pass(t, v, n, m, nil)
		}
		sealed := pass(t, v, before+1, m, nil)
		old := strings.TrimSuffix(sealed, m)
		other := strings.Replace(m, "lunch?", "l=75nch?", 1)
		again := func(old, m string) string {
			t.Helper()
			fields, err := hop(before+1).Again([]byte(old), func(w io.Writer) error { _, err := io.WriteString(w, m); return err }, at)
			if err != nil {
				t.Fatal(err)
			}
			return string(fields)
		}
		got := again(old, other)
		r := judge(t, v, got+other)
		if r.Word != Pass || len(r.Sets) != before+1 || r.OldestPass != map[bool]int{true: 0, false: before + 1}[before == 0] {
			t.Errorf("behind %d sets: %+v", before, r)
		}
		if !strings.Contains(r.Sets[before].Results, "spf=pass smtp.mailfrom=ann@example.org") {
			t.Errorf("%q", r.Sets[before].Results)
		}
		if got := judge(t, v, old+other); got.Word != Fail {
			t.Error("the old set passes, too")
		}
		for name, fields := range map[string]string{"nothing": "", "no set": "X: y\r\n", "another instance": strings.ReplaceAll(old, "i=", "i=1"), "half a set": old[:strings.Index(old, "ARC-Message")]} {
			if got := again(fields, other); got != "" {
				t.Errorf("%s: %s", name, got)
			}
		}
	}
	// A chain that had failed is said to have.
	m := pass(t, v, 1, letter, nil)
	broken := strings.Replace(m, "lunch?", "dinner?", 1)
	sealed := pass(t, v, 2, broken, nil)
	fields, err := hop(2).Again([]byte(strings.TrimSuffix(sealed, broken)), func(w io.Writer) error { _, err := io.WriteString(w, broken); return err }, at)
	if err != nil || !strings.Contains(string(fields), "cv=fail") {
		t.Errorf("%s: %v", fields, err)
	}
}
