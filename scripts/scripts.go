// Package scripts holds the policies that Postern ships: each a NAME.lua with its
// NAME_test.lua beside it, shared modules in lib. They are embedded in the
// binary; a file of the same name in the site's policy folder wins over one.
package scripts

import "embed"

// Files are the shipped scripts, their tests and the modules in lib.
//
//go:embed *.lua lib/*.lua
var Files embed.FS
