package record

import (
	"testing"
	"time"

	"github.com/postern-mta/postern/core/message"
)

// TestPassages: what statistics are made of comes as it was told, with times in which
// an attempt ended.
func TestPassages(t *testing.T) {
	r, err := Open(t.TempDir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	at := time.Now().Add(-time.Minute).Truncate(time.Microsecond)
	id := message.NewID(at)
	r.Attempt(id, Attempt{
		Time: at, Recipient: "b@example.net", Sender: "a@example.org", NextHop: "mx", Reply: message.NewReply(250, "2.0.0", "Ok"),
		Outcome: "delivered", Duration: 1500 * time.Millisecond, Attempt: 1, Size: 77, Age: 3 * time.Second,
	})
	r.Left(id, 3*time.Second)
	var list []Passage
	for p, err := range r.Passages(t.Context(), time.Time{}, time.Time{}) {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
	want := Passage{
		Event: "delivered", ID: id, Time: at.Add(1500 * time.Millisecond).UTC(), Sender: "a@example.org", Size: 77, Recipient: "b@example.net",
		NextHop: "mx", Reply: "250 2.0.0 Ok", Duration: 1500 * time.Millisecond, Age: 3 * time.Second,
	}
	if len(list) != 2 || list[0] != want || list[1].Event != "left" || list[1].ID != id {
		t.Errorf("%+v", list)
	}
	for p, err := range r.Passages(t.Context(), time.Time{}, at) {
		t.Errorf("%+v, %v: it is later", p, err)
	}
}
