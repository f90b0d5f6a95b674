package dotqmail

// Verdict is what a program's exit status says of a delivery.
type Verdict uint8

// The verdicts.
const (
	NotNow Verdict = iota // to be tried again: the zero value, since what is not clear is temporary
	Done
	Stop // done, and the lines below are not looked at
	Never
)

// Exit reads an exit status of a program of a dot-qmail file. Whatever qmail does not
// know is temporary, also that there is no such program (127, or 126) and an end by a
// signal (-1).
func Exit(status int) Verdict {
	switch status {
	case 0:
		return Done
	case 99:
		return Stop
	case 100, 64, 65, 70, 76, 77, 78, 112:
		return Never
	}
	return NotNow
}
