// Package etc holds the built-in configuration, which is also the sample that
// people start from.
package etc

import _ "embed"

// Default is the text of postern.toml.
//
//go:embed postern.toml
var Default []byte
