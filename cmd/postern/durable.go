//go:build !nosync

package main

// durable tells that mail is on the disk before it is answered for. A build with
// the tag nosync, for measuring, is not.
const durable = true
