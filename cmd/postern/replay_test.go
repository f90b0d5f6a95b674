package main

import (
	"testing"
	"time"

	"github.com/postern-mta/postern/core/config"
)

// Messages in files come in at the time that they tell themselves.
func TestTimeOfAFile(t *testing.T) {
	then := time.Date(2002, 9, 6, 15, 6, 26, 0, time.UTC)
	for header, want := range map[string]time.Time{
		"Received: from a.example ([192.0.2.7]) by b.example; Fri, 06 Sep 2002 11:06:26 -0400\nDate: Thu, 05 Sep 2002 11:06:26 -0400\n": then,
		"Delivery-Date: Fri Sep  6 15:06:26 2002\nDate: Thu, 05 Sep 2002 11:06:26 -0400\n":                                              then,
		"Delivery-Date: Fri, 06 Sep 2002 11:06:26 -0400\n":                                                                              then,
		"Date: Fri, 06 Sep 2002 11:06:26 -0400\n":                                                                                       then,
		"Date: Fri, 06 Sep 2092 11:06:26 -0400\n":                                                                                       {},
		"Date: yesterday\n": {},
		"Subject: none\n":   {},
	} {
		p := fromFile(&config.Config{}, "x", []byte(header+"\ntext\n"), fileFacts{})
		if want.IsZero() {
			if since := time.Since(p.at); since < 0 || since > time.Hour {
				t.Errorf("%q: %s", header, p.at)
			}
		} else if !p.at.Equal(want) {
			t.Errorf("%q: %s, want %s", header, p.at, want)
		}
	}
}
