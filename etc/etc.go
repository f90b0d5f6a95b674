// Package etc holds the built-in configuration and the profiles that people start from.
package etc

import "embed"

// Default is the text of postern.toml: what runs where no file is given.
//
//go:embed postern.toml
var Default []byte

// Profiles are whole configurations for a purpose, NAME.toml, with the files that they
// name.
//
//go:embed gateway.toml submission.toml submission.users local.toml
var Profiles embed.FS
