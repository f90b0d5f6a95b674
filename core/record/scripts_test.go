package record

import (
	"fmt"
	"io"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestScriptMetrics(t *testing.T) {
	r, err := Open(t.TempDir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	for _, one := range []struct {
		policy, name string
		labels       map[string]string
		n            float64
	}{
		{"a", "hits", nil, 1},
		{"a", "hits", nil, 2},
		{"b", "hits", map[string]string{"list": "x\"\xff", "by": "y"}, 1}, // other labels than before
		{"a", "sum_total", nil, 0.5},
	} {
		if err := r.Count(one.policy, one.name, one.labels, one.n); err != nil {
			t.Error(err)
		}
	}
	for _, v := range []float64{0.0005, 0.3, 1e9} {
		if err := r.Observe("a", "took", nil, v); err != nil {
			t.Error(err)
		}
	}
	// Names that would spoil the page.
	for _, name := range []string{"took_sum", "took_bucket", "took_count", "hits_total", "", "a b", "7x", "a\nb"} {
		if err := r.Observe("a", name, nil, 1); err == nil {
			t.Errorf("%q became a histogram", name)
		}
	}
	for _, label := range []string{"le", "quantile", "policy", "__name__", "a-b", "", "7"} {
		if err := r.Count("a", "hits", map[string]string{label: "x"}, 1); err == nil {
			t.Errorf("%q became a label", label)
		}
	}
	page := func() string {
		w := httptest.NewRecorder()
		r.Metrics().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
		b, _ := io.ReadAll(w.Body)
		if w.Code != 200 {
			t.Fatalf("status %d: %s", w.Code, b)
		}
		return string(b)
	}
	text := page()
	for _, want := range []string{
		`postern_script_hits_total{policy="a"} 3`, `postern_script_hits_total{by="y",list="x\"?",policy="b"} 1`, `postern_script_sum_total{policy="a"} 0.5`,
		`postern_script_took_bucket{policy="a",le="0.001"} 1`, `postern_script_took_bucket{policy="a",le="0.5"} 2`, `postern_script_took_bucket{policy="a",le="+Inf"} 3`, `postern_script_took_count{policy="a"} 3`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("the page lacks %s", want)
		}
	}
	// Labels without end become "other", names without end an error.
	for i := range 2 * maxScriptSets {
		if err := r.Count("a", "many", map[string]string{"n": fmt.Sprint(i)}, 1); err != nil {
			t.Fatal(err)
		}
	}
	if text := page(); !strings.Contains(text, `postern_script_many_total{n="other",policy="other"}`) || strings.Count(text, "postern_script_many_total{") > maxScriptSets+1 {
		t.Error("sets of labels are not bounded")
	}
	failed := false
	for i := range 2 * maxScriptMetrics {
		failed = r.Count("a", fmt.Sprint("name", i), nil, 1) != nil || failed
	}
	if !failed {
		t.Error("names are not bounded")
	}
	for i := range 3 * maxScriptSets {
		_ = r.Count("a", "many", map[string]string{fmt.Sprint("n", i): "x"}, 1)
	}
	if r.metrics.scripts.sets > 2*maxScriptSets {
		t.Error("names of labels are not bounded")
	}
	page()
}
