package message

import "testing"

func TestXtext(t *testing.T) {
	for in, want := range map[string]string{
		"plain": "plain", "": "", "a+2Bb+3Dc": "a+b=c", "+20": " ", "+c3+BC": "ü", "+00": "\x00", "rfc822;x": "rfc822;x",
	} {
		if got, ok := DecodeXtext(in); !ok || got != want {
			t.Errorf("%q: %q %v, want %q", in, got, ok, want)
		}
	}
	for _, in := range []string{"a b", "a=b", "+", "+2", "+2G", "++2B", "+-1", "\x00", "ü", "\t", "a\x7f"} {
		if got, ok := DecodeXtext(in); ok {
			t.Errorf("%q is no xtext, but read as %q", in, got)
		}
	}
}

func FuzzXtext(f *testing.F) {
	for _, s := range []string{"a+2Bb", "+", "++", "a=b", "ü", "+00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if got, ok := DecodeXtext(EncodeXtext(s)); !ok || got != s {
			t.Fatalf("%q became %q, %v", s, got, ok)
		}
		if plain, ok := DecodeXtext(s); ok {
			if again, ok := DecodeXtext(EncodeXtext(plain)); !ok || again != plain {
				t.Fatalf("%q: %q became %q, %v", s, plain, again, ok)
			}
		}
	})
}
