package config

import "strings"

// Suggest returns the one of names that word was probably meant to be, and "" where none is near: at most one edit
// (insert, delete, replace, swap neighbours) for each three characters.
func Suggest(word string, names []string) string {
	best, nearest := "", 1+max(1, min(len(word), 64)/3)
	if len(word) > 64 || word == "" {
		return ""
	}
	for _, name := range names {
		if d := distance(strings.ToLower(word), strings.ToLower(name)); d < nearest && d < len(name) {
			best, nearest = name, d
		}
	}
	return best
}

// distance counts the edits that turn a into b; neighbours that changed places count once.
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}
