package lua

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/postern-mta/postern/hooks"
)

// A cache gives a script again with its findings as long as the file and its
// modules are the same, and one of its own to everybody.
func TestCache(t *testing.T) {
	o, _ := testOptions(t)
	o.Cache = &Cache{}
	beside, lib := fstest.MapFS{}, fstest.MapFS{"m.lua": {Data: []byte("return { n = 1 }")}}
	o.Modules = []fs.FS{beside, lib}
	const source = "local m = require 'm'\nlocal unread = 1\nlocal p = policy { settings = { k = string 'x' } }\nfunction p.rcpt() return reject('5.7.1', '%d %s', m.n, p.k) end\nreturn p"
	answer := func(source string) (*Script, string) {
		t.Helper()
		s, problems := Compile("test.lua", []byte(source), o)
		if s == nil || len(problems) != 1 || problems[0].Line != 2 {
			t.Fatalf("%v", problems)
		}
		p, problems := s.Instance(nil)
		if p == nil {
			t.Fatal(problems)
		}
		defer p.Close()
		d, err := p.Handle(t.Context(), hooks.Rcpt, at1(testTransaction()))
		if err != nil {
			t.Fatal(err)
		}
		return s, d.Reply.Text
	}
	first, text := answer(source)
	again, more := answer(source)
	if first == again || first.chunk != again.chunk || text != "1 x" || more != text {
		t.Errorf("%q and %q, the same chunk: %v", text, more, first.chunk == again.chunk)
	}
	if other, _ := Compile("other.lua", []byte(source), o); other.chunk == first.chunk {
		t.Error("a file of another name has the same chunk: its errors would name the wrong one")
	}
	lib["m.lua"] = &fstest.MapFile{Data: []byte("return { n = 2 }")}
	if _, text = answer(source); text != "2 x" {
		t.Errorf("a module changed, and the answer is %q", text)
	}
	beside["m.lua"] = &fstest.MapFile{Data: []byte("return { n = 3 }")}
	if _, text = answer(source); text != "3 x" {
		t.Errorf("a module stands beside the policy now, and the answer is %q", text)
	}
	if _, text = answer(source + "\n-- more"); text != "3 x" {
		t.Errorf("%q", text)
	}
	delete(beside, "m.lua")
	delete(lib, "m.lua")
	if s, problems := Compile("test.lua", []byte(source), o); s != nil {
		t.Errorf("the module is gone: %v", problems)
	}
}

// What a setting's file holds is looked at each time.
func TestCacheLooksAtFiles(t *testing.T) {
	o, _ := testOptions(t)
	o.Cache, o.Dir = &Cache{}, t.TempDir()
	for _, want := range []string{"one", "two"} {
		if err := os.WriteFile(filepath.Join(o.Dir, "words"), []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
		p := load(t, o, "local p = policy { settings = { f = file 'words' } }\nfunction p.rcpt() return reject('5.7.1', p.f.text) end\nreturn p", nil)
		if d, err := p.Handle(t.Context(), hooks.Rcpt, at1(testTransaction())); err != nil || d.Reply.Text != want {
			t.Errorf("%+v, %v", d, err)
		}
	}
}

// Many generations at once, more scripts than a cache keeps.
func TestCacheIsBounded(t *testing.T) {
	o, _ := testOptions(t)
	o.Cache = &Cache{}
	o.Modules = []fs.FS{fstest.MapFS{"m.lua": {Data: []byte("return 1")}}}
	var compiling sync.WaitGroup
	for g := range 4 {
		compiling.Go(func() {
			for i := range 300 {
				source := fmt.Sprintf("local n = %d\nlocal p = policy {}\nfunction p.rcpt() if n == require then require 'm' end return accept() end\nreturn p", i*4+g)
				if s, problems := Compile("test.lua", []byte(source), o); s == nil {
					t.Error(problems)
				}
			}
		})
	}
	compiling.Wait()
	if n := len(o.Cache.scripts); n > maxCached {
		t.Errorf("%d scripts", n)
	}
}
